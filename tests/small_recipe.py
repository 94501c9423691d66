"""The recipe by which tests of the command line make an index in little time."""

from __future__ import annotations

SMALL = ("--recipe", "vgg16-pool5", "--size", "32")
