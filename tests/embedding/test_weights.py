"""Weights files: every form gives the same tensors, nothing in them runs, and what is wrong is said in one line."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from imgindex.embedding.vgg import FeatureExtractor
from imgindex.embedding.weights import holds_fc1, load, locate, shipped_path
from imgindex.errors import UsageError, WeightsMismatch, WeightsUnavailable

SHAPES = {"features.0.weight": (64, 3, 3, 3), "features.0.bias": (64,)}
MAKE = Path(__file__).parents[2] / "docs" / "weights" / "make.py"

State = dict[str, Any]
Save = Callable[[State, Path], None]


def save_zip(state: State, path: Path) -> None:
    torch.save(state, path)


def save_old(state: State, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_safetensors(state: State, path: Path) -> None:
    save_file(state, path)


def save_npz(state: State, path: Path) -> None:
    np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})


FORMS: dict[str, Save] = {
    "zip.pth": save_zip,
    "old.pth": save_old,
    "weights.safetensors": save_safetensors,
    "weights.npz": save_npz,
}
forms = pytest.mark.parametrize("form", FORMS)


def state_dict(**more: Tensor) -> State:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()} | more


def refusal(path: Path, shapes: dict[str, tuple[int, ...]] = SHAPES) -> str:
    """The message with which a file is refused: one line that names it, with a way out."""
    with pytest.raises(WeightsMismatch) as error:
        load(locate(str(path)), shapes)
    message = str(error.value)
    assert str(path) in message
    assert message.isprintable()
    assert ".safetensors" in error.value.hint
    return message.replace(str(path), "FILE")


@forms
def test_every_form_gives_the_tensors_that_were_saved(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    FORMS[form](state_dict(), path)
    loaded = load(locate(str(path)), SHAPES)
    assert loaded.keys() == SHAPES.keys()
    for name, tensor in state_dict().items():
        assert torch.equal(loaded[name], tensor)


@forms
def test_only_the_tensors_that_are_asked_for_are_loaded(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    FORMS[form](state_dict(**{"classifier.6.weight": torch.ones(1000, 4)}), path)
    assert load(locate(str(path)), {"features.0.bias": (64,)}).keys() == {"features.0.bias"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("form", ["zip.pth", "weights.safetensors", "weights.npz"])
def test_what_a_recipe_does_not_need_takes_no_memory(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    FORMS[form](state_dict(**{"classifier.0.weight": torch.ones(64 << 20)}), path)
    weights = locate(str(path))
    load(weights, {"features.0.bias": (64,)})
    # From here on the peak counts anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    load(weights, SHAPES)
    assert peak_bytes() - before < 64 << 20


def peak_bytes() -> int:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10


@forms
def test_a_missing_tensor_is_named(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    FORMS[form]({"features.0.bias": torch.ones(64)}, path)
    assert refusal(path) == "FILE lacks features.0.weight"


def test_many_missing_tensors_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"features.0.bias": torch.ones(64)}, path)
    assert refusal(path, FeatureExtractor("pool5").shapes()) == "FILE lacks features.0.weight and 24 more"


@forms
def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    FORMS[form](state_dict() | {"features.0.weight": torch.ones(64, 1, 3, 3)}, path)
    assert refusal(path) == "FILE: features.0.weight has the shape (64, 1, 3, 3) instead of (64, 3, 3, 3)"


@forms
def test_whole_numbers_are_no_weights(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    FORMS[form](state_dict() | {"features.0.bias": torch.ones(64, dtype=torch.int32)}, path)
    assert refusal(path) == "FILE: features.0.bias holds torch.int32 instead of floating-point numbers"


@forms
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, form: str, number: float) -> None:
    path = tmp_path / form
    state = state_dict()
    state["features.0.bias"][7] = number
    FORMS[form](state, path)
    assert refusal(path) == "FILE: features.0.bias holds numbers that are not finite"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_are_weights_too(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in state_dict().items()}, path)
    loaded = load(locate(str(path)), SHAPES)
    assert all(torch.equal(loaded[name], tensor.to(dtype)) for name, tensor in state_dict().items())


def test_what_is_no_tensor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"features.0.weight": 3, "features.0.bias": torch.ones(64)}, path)
    assert refusal(path) == "FILE: features.0.weight is no tensor"
    torch.save([torch.ones(64)], path)
    assert refusal(path) == "FILE holds no state dict"


@forms
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, form: str, kept: float) -> None:
    path = tmp_path / form
    FORMS[form](state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert "FILE, which may be damaged" in refusal(path)


@pytest.mark.parametrize("shape", [(10**15,), (64, 3, 3, 10**9)])
def test_no_room_is_made_for_an_array_that_is_not_wanted(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path, header = tmp_path / "weights.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        for name in SHAPES:
            archive.writestr(f"{name}.npy", header.getvalue())
    assert refusal(path) == f"FILE: features.0.weight has the shape {shape} instead of (64, 3, 3, 3)"


def test_numbers_that_are_longer_than_any_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, **{name: np.zeros(shape, "S1000") for name, shape in SHAPES.items()})
    assert refusal(path) == "FILE: features.0.weight holds |S1000 instead of floating-point numbers"


def test_a_header_without_end_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in SHAPES:
            archive.writestr(f"{name}.npy", b"\x93NUMPY\2\0\xff\xff\xff\x0f" + b" " * (64 << 20))
    tracemalloc.start()
    try:
        assert "FILE, which may be damaged" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_compressed_pth_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights/data.pkl", bytes(1 << 20))
    assert refusal(path) == "FILE is compressed, which torch.save never does"


def test_a_pickle_that_asks_for_more_memory_than_there_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    save_zip(state_dict(), path)

    def greedy(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(torch, "load", greedy)
    assert refusal(path) == "FILE, which may be damaged, asks for more memory than there is"


@forms
def test_a_text_file_is_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    path.write_text("these are not weights\n" * 100)
    assert "FILE, which may be damaged" in refusal(path)


class Intruder:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def save_raw(state: State, path: Path) -> None:
    path.write_bytes(pickle.dumps(state, protocol=2))


def save_objects(state: State, path: Path) -> None:
    np.savez(path, **{name: np.array([value], dtype=object) for name, value in state.items()})


@pytest.mark.parametrize(
    ("name", "save"),
    [("zip.pth", save_zip), ("old.pth", save_old), ("raw.pth", save_raw), ("objects.npz", save_objects)],
)
def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, name: str, save: Save) -> None:
    path, trace = tmp_path / name, tmp_path / "trace"
    intruder = Intruder(trace)
    save({"features.0.weight": intruder, "features.0.bias": intruder}, path)
    message = refusal(path)
    assert not trace.exists()
    assert "weights_only" not in message
    assert "unsafe" not in message
    # It would have run, had it been let.
    pickle.loads(pickle.dumps(intruder))
    assert trace.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    assert refusal(path) == "cannot read weights from FILE, which may be damaged: it is no state dict of tensors alone"


def test_there_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="there is no weights file") as error:
        locate(str(tmp_path / "nowhere.pth"))
    assert "--weights" in error.value.hint
    with pytest.raises(WeightsUnavailable, match="there is no weights file"):
        locate(str(tmp_path))


def test_a_file_is_known_by_its_content_and_found_again_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(state_dict(), "mine.pth")
    found = locate("mine.pth")
    assert (found.name, found.source) == ("mine.pth", str(tmp_path / "mine.pth"))
    assert found.sha256 == hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()


def test_a_file_holds_fc1_or_not(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state_dict(), path)
    assert not holds_fc1(str(path))
    torch.save(state_dict(**{"classifier.0.weight": torch.ones(1).expand(4096, 25088)}), path)
    assert holds_fc1(str(path))
    assert not holds_fc1("oxford")


def test_random_weights_are_torchvisions_and_leave_the_callers_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torchvision.models.vgg16().state_dict()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    loaded = load(locate("random:5"), FeatureExtractor("fc1").shapes())
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.keys() == FeatureExtractor("fc1").shapes().keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


def test_every_seed_has_a_digest_of_its_own() -> None:
    assert len({locate(f"random:{seed}").sha256 for seed in range(20)}) == 20
    assert locate("random:007") == locate("random:007")
    assert locate("random:007").sha256 == locate("random:7").sha256


@pytest.mark.parametrize("source", ["random:", "random:x", "random:-1", "random:1.5"])
def test_a_seed_that_is_no_number_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match="seed") as error:
        locate(source)
    assert "random:0" in error.value.hint


def test_the_shipped_weights_are_those_that_were_made() -> None:
    recorded = re.search(r'^SHA256 = "([0-9a-f]{64})"$', MAKE.read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert hashlib.sha256(Path(shipped_path()).read_bytes()).hexdigest() == recorded
    assert locate("oxford").sha256 == recorded


def test_the_shipped_weights_are_all_that_pool5_needs() -> None:
    shapes = FeatureExtractor("pool5").shapes()
    loaded = load(locate("oxford"), shapes)
    assert len(loaded) == 26
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float16}
    with pytest.raises(WeightsMismatch, match="lacks classifier"):
        load(locate("oxford"), FeatureExtractor("fc1").shapes())


def test_the_shipped_weights_are_oxfords_rounded_to_float16(photos: Path) -> None:
    loaded = load(locate("oxford"), FeatureExtractor("pool5").shapes())
    with np.load(photos / "vgg16_conv_oxford.npz") as oxford:
        assert set(oxford.files) == loaded.keys()
        for name, tensor in loaded.items():
            assert np.array_equal(tensor.numpy(), oxford[name].astype(np.float16))
