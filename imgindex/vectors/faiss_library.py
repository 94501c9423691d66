"""FAISS, loaded so that it multiplies with the instructions of this processor; all other files import it from here.

Where both are loaded, torch must come before FAISS: what might use torch too imports this file late.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

# Before FAISS: its copy of the library that numpy also uses must not be the first one.
import numpy as np  # noqa: F401

# OpenBLAS reads this name of a processor when it is loaded.
VARIABLE = "OPENBLAS_CORETYPE"
# The last family of AMD that the OpenBLAS of faiss-cpu knows: Zen 4.
LAST_KNOWN_AMD = 0x19


def processor_for_openblas(cpuinfo: str) -> str | None:
    """Return the name of a processor that OpenBLAS knows, with the instructions of this one; None to let it choose.

    cpuinfo: the text of Linux's /proc/cpuinfo. The wheels of faiss-cpu bring OpenBLAS 0.3.15, of 2021. It takes later
    processors for the oldest one: products of matrices then take 3 to 4 times as long on Intel's Sapphire Rapids and
    Emerald Rapids.
    """
    fields = dict(line.split(":", 1) for line in cpuinfo.partition("\n\n")[0].splitlines() if ":" in line)
    found = {name.strip(): value.strip() for name, value in fields.items()}
    family, flags = found.get("cpu family", ""), set(found.get("flags", "").split())
    if found.get("vendor_id") == "AuthenticAMD" and family.isdecimal() and int(family) <= LAST_KNOWN_AMD:
        return None
    if {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return "SkylakeX"
    return "Haswell" if {"avx2", "fma"} <= flags else None


@contextlib.contextmanager
def _processor_named() -> Iterator[None]:
    """Name the processor within the block, where the user has not named one and FAISS is not loaded yet."""
    name = None
    if VARIABLE not in os.environ and "faiss" not in sys.modules:
        with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
            name = processor_for_openblas(file.read())
    if name is None:
        yield
        return
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


with _processor_named():
    import faiss

__all__ = ["faiss", "processor_for_openblas"]
