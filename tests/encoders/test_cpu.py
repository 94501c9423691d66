"""The engine on a CPU: which precision it takes, and that a vector depends on the picture and the recipe alone."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from imgindex.encoders import cpu
from imgindex.encoders.cpu import CpuEncoder, cpu_encoder, drawn_pictures
from imgindex.encoders.vgg.graph import VggGraphs
from imgindex.encoders.weights import locate_weights
from imgindex.errors import DeviceUnavailable
from imgindex.recipe import Recipe, get_recipe
from imgindex.types import Engine

SMALL = get_recipe("vgg16-pool5", size=96)
on_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="int8 is promised on x86")


def encoder(precision: str = "fp32", recipe: Recipe = SMALL, **engine: Any) -> CpuEncoder:
    return cpu_encoder(recipe, graphs(recipe), Engine(precision=precision, **engine))


@functools.cache
def graphs(recipe: Recipe) -> VggGraphs:
    return VggGraphs(recipe, locate_weights("oxford"))


@pytest.fixture(scope="module")
def exact() -> CpuEncoder:
    return encoder("fp32")


@pytest.fixture(scope="module")
def rounded() -> CpuEncoder:
    return encoder("int8")


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network was tried in int8 before."""
    monkeypatch.setattr(cpu, "_INT8_FAULTS", {})


def cosines(one: Any, other: Any) -> npt.NDArray[np.float64]:
    return np.einsum("ij,ij->i", one, other, dtype=np.float64)


@on_x86
def test_auto_is_int8_where_it_gives_the_vectors_of_fp32(untried: None) -> None:
    assert encoder("auto").precision == "int8"


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_another_precision_where_int8_gives_other_vectors(
    untried: None, monkeypatch: pytest.MonkeyPatch, has_bf16: bool, precision: str
) -> None:
    monkeypatch.setattr(cpu, "bf16_is_faster", lambda: has_bf16)
    monkeypatch.setattr(VggGraphs, "reference", lambda self, side: np.arange(512, dtype=np.float32))
    assert encoder("auto").precision == precision
    with pytest.raises(DeviceUnavailable, match="cannot take int8: its vector of a drawn picture") as error:
        encoder("int8")
    assert "`precision=auto`" in error.value.hint


@pytest.mark.parametrize(
    ("flags", "seconds", "faster"),
    [
        ("avx512f amx_bf16 avx512_bf16", {}, True),
        ("avx512f avx512_bf16", {"bf16": 1.0, "fp32": 1.9}, True),
        ("avx512f avx512_bf16", {"bf16": 1.0, "fp32": 1.1}, False),
        ("avx512f avx512_bf16", {"bf16": 2.0, "fp32": 1.0}, False),
        ("avx512f avx512_vnni", {}, False),
        ("", {}, False),
    ],
)
def test_bf16_is_chosen_only_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, flags: str, seconds: dict[str, float], faster: bool
) -> None:
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(cpu, "_seconds", seconds.__getitem__)
    assert cpu.bf16_is_faster.__wrapped__() is faster


def test_the_time_of_convolutions_is_measured_in_both_precisions() -> None:
    assert cpu._seconds("fp32") > 0
    assert cpu._seconds("bf16") > 0


def test_auto_is_another_precision_where_openvino_does_not_compute_in_int8(
    untried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_is_mostly_int8", lambda network: False)
    assert encoder("auto").precision != "int8"


@on_x86
def test_weights_without_a_known_output_are_compared_with_fp32(untried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VggGraphs, "reference", lambda self, side: None)
    assert encoder("auto").precision == "int8"


def test_auto_for_the_article_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert encoder("auto", replace(SMALL, name="article")).precision == "fp32"


@pytest.mark.parametrize("name", ["fp16", "fp8", "", "INT8"])
def test_a_precision_that_a_cpu_lacks_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(DeviceUnavailable, match=f"precision {name!r}") as error:
        encoder(name)
    assert error.value.hint == "choose auto, int8, bf16 or fp32"


@on_x86
def test_int8_differs_from_fp32_by_rounding_only(exact: CpuEncoder, rounded: CpuEncoder) -> None:
    pictures = drawn_pictures(6, 96)
    assert cosines(exact.encode(pictures), rounded.encode(pictures)).min() > 0.98
    assert rounded.fp32().precision == "fp32"
    assert np.array_equal(rounded.fp32().encode(pictures), exact.encode(pictures))
    assert exact.fp32() is exact


def test_bf16_differs_from_fp32_by_rounding_only(exact: CpuEncoder) -> None:
    pictures = drawn_pictures(3, 96)
    assert cosines(exact.encode(pictures), encoder("bf16").encode(pictures)).min() > 0.99


@pytest.mark.parametrize("precision", ["fp32", pytest.param("int8", marks=on_x86)])
def test_a_vector_has_the_same_bits_in_every_batch_thread_and_run(
    precision: str, exact: CpuEncoder, rounded: CpuEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = exact if precision == "fp32" else rounded
    pictures = drawn_pictures(6, 96)
    expected = one.encode(pictures)
    assert len(np.unique(expected, axis=0)) == 6
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda number: one.encode(pictures[number : number + 1]), range(6)))
    assert np.array_equal(np.concatenate(alone), expected)
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        graphs.cache_clear()
        again = encoder(precision)
        assert again.streams == int(threads)
        assert np.array_equal(again.encode(pictures), expected)


TRY = """
import json
import numpy as np
from imgindex.encoders.cpu import cpu_encoder, drawn_pictures, weight_limit
from imgindex.encoders.vgg.graph import VggGraphs
from imgindex.encoders.weights import locate_weights
from imgindex.recipe import get_recipe
from imgindex.types import Engine

recipe = get_recipe("vgg16-pool5", size=96)
encoder = cpu_encoder(recipe, VggGraphs(recipe, locate_weights("oxford")), Engine())
pictures = drawn_pictures(4, 96)
vectors, exact = encoder.encode(pictures), encoder.fp32().encode(pictures)
print(json.dumps([encoder.precision, weight_limit(), float((vectors * exact).sum(axis=1).min())]))
"""


@on_x86
@pytest.mark.parametrize(
    ("instructions", "limit"),
    [("AVX2", 63), ("AVX2_VNNI", None), ("AVX512_CORE", 63), ("AVX512_CORE_VNNI", None), ("AVX512_CORE_BF16", None)],
)
def test_int8_is_right_on_every_set_of_instructions(instructions: str, limit: int | None) -> None:
    """oneDNN takes no instructions beyond the set that it is given, if the processor has that set."""
    done = subprocess.run(
        [sys.executable, "-c", TRY],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": instructions},
        capture_output=True,
        text=True,
        check=True,
    )
    precision, found, cosine = json.loads(done.stdout)
    assert precision == "int8"
    # With VNNI the greatest weight is 127, if this processor has it.
    assert found == limit or (limit is None and found in (63, 127))
    assert cosine > 0.98


def test_the_batch_size_is_the_engines_or_that_of_the_precision() -> None:
    assert encoder(batch_size=3).batch_size == 3
    assert encoder().batch_size == cpu.default_batch_size("cpu", "fp32", 96)


def test_memory_that_runs_out_is_an_error_with_a_way_out(exact: CpuEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any) -> Any:
        raise RuntimeError("Check 'false' failed at src/core.cpp:124:\nstd::bad_alloc")

    monkeypatch.setattr(cpu._Request, "output", fail)
    with pytest.raises(DeviceUnavailable, match="not have enough memory") as error:
        exact.encode(drawn_pictures(1, 96))
    assert "`size=128`" in error.value.hint
    monkeypatch.undo()
    # The stream came back: all of them compute.
    with ThreadPoolExecutor(exact.streams) as pool:
        assert len(list(pool.map(exact.encode, [drawn_pictures(1, 96)] * exact.streams))) == exact.streams


def test_other_errors_are_raised_as_they_are(exact: CpuEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any) -> Any:
        raise RuntimeError("Can't set the input tensor")

    monkeypatch.setattr(cpu._Request, "output", fail)
    with pytest.raises(RuntimeError, match="Can't set the input tensor"):
        exact.encode(drawn_pictures(1, 96))


def test_drawn_pictures_are_always_the_same_and_differ() -> None:
    pictures = drawn_pictures(3, 64)
    assert pictures.shape == (3, 64, 64, 3)
    assert np.array_equal(pictures, drawn_pictures(3, 64))
    assert len(np.unique(pictures.reshape(3, -1), axis=0)) == 3
    assert (pictures.min(), pictures.max()) == (0, 255)


def test_the_engine_reports_nothing_and_starts_no_process() -> None:
    code = """
import sys
import imgindex.encoders.cpu
print(sys.modules["openvino_telemetry"], "multiprocessing.process" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None False\n"
