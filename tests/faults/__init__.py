"""Faults in real runs: injected at random moments, judged by what the recipe itself left on the disk.

A case is one run (or a few) and one fault; see ``world`` for its folders and programs, ``kinds`` for what is done
to it, ``oracle`` for what must be true afterwards, ``campaign`` for how many are run at a time.
"""
