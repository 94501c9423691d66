"""The steps that the benchmark measures."""

from __future__ import annotations

STEPS = ["scan", "read", "decode in processes", "decode", "transform", "forward", "write"]
