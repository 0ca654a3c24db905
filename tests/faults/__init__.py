"""Faults in real runs: injected at random moments, judged by what the recipe itself left on the disk.

A case is one run (or a few) and one fault: ``world`` has its folders and programs; ``kinds``, ``trainings``,
``disks`` and ``containers`` what is done to it; ``oracle`` what must be true afterwards; ``campaign`` runs
many.
"""
