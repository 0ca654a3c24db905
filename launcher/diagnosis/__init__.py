"""What the facts of a machine mean for a run: facts in, lines out; nothing is read, asked or raised."""
