"""How FAISS is loaded: its products use the instructions of this processor, and nothing else is changed by that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imgindex.vectors.faiss_library import processor_for_openblas

AVX2 = "sse4_2 fma avx avx2"
AVX512 = f"{AVX2} avx512f avx512dq avx512cd avx512bw avx512vl"


def cpuinfo(vendor: str, family: int, flags: str) -> str:
    one = f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 207\nflags\t\t: {flags}\n\n"
    return one + one.replace(": 0", ": 1").replace(flags, "other")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (cpuinfo("GenuineIntel", 6, AVX512), "SkylakeX"),
        (cpuinfo("GenuineIntel", 6, AVX2), "Haswell"),
        (cpuinfo("GenuineIntel", 6, "sse4_2 avx"), None),
        (cpuinfo("AuthenticAMD", 0x19, AVX512), None),
        (cpuinfo("AuthenticAMD", 0x1A, AVX512), "SkylakeX"),
        ("processor\t: 0\nFeatures\t: fp asimd sve\n", None),
        ("", None),
    ],
    ids=["Emerald Rapids", "Alder Lake", "Sandy Bridge", "Zen 4", "Zen 5", "ARM", "nothing"],
)
def test_the_processor_is_named_where_openblas_may_not_know_it(text: str, name: str | None) -> None:
    assert processor_for_openblas(text) == name


SCRIPT = """
import os
import imgindex.vectors.faiss_library
from threadpoolctl import threadpool_info
found = [one["architecture"] for one in threadpool_info() if "faiss" in one["filepath"] and "blas" in one["filepath"]]
print(*found, os.environ.get("OPENBLAS_CORETYPE"), sep=",")
"""


@pytest.mark.slow
@pytest.mark.parametrize("given", [None, "Nehalem"])
def test_faiss_multiplies_with_the_instructions_of_this_processor(given: str | None) -> None:
    if "avx2" not in (Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""):
        pytest.skip("OpenBLAS knows this processor")
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    environment |= {} if given is None else {"OPENBLAS_CORETYPE": given}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    *found, left = done.stdout.strip().split(",")
    if not found:
        pytest.skip("this FAISS has another library")
    assert left == str(given)
    assert found == [given] if given else found[0] in ("SkylakeX", "Haswell", "Zen")
