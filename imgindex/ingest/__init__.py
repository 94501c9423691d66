"""One run of `add`: compare the disk with the catalogue, then read, decode, embed and commit what is new.

run.py is the run from beginning to end. It checks the roots (mounts.py), compares the files below them with the
catalogue (scan.py), and passes those to open (worklist.py) through the pipeline (pipeline.py), as items (items.py).
"""
