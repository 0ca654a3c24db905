"""Use cases: each reads as one line of the flow manifest -> lock -> image -> plan -> run."""
