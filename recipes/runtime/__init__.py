"""What runs inside an environment beside a recipe; it imports nothing until it is asked to."""
