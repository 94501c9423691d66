"""Weights files: every form gives the same tensors, nothing in them runs, and an error is one line."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import struct
import sys
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

from imgindex.encoders import weights as weights_module
from imgindex.encoders.vgg import layers
from imgindex.encoders.weights import load_weights, locate_weights, shipped_path
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


FORMS: dict[str, Save] = {
    "zip.pth": save_zip,
    "old.pth": save_old,
    "weights.safetensors": save_safetensors,
}
forms = pytest.mark.parametrize("form", FORMS)


def state_dict(**more: Tensor) -> State:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()} | more


def refusal(path: Path, shapes: dict[str, tuple[int, ...]] = SHAPES) -> str:
    """The message with which a file is refused: one line that names it, with a way out."""
    with pytest.raises(WeightsMismatch) as error:
        load_weights(locate_weights(str(path)), shapes)
    message = str(error.value)
    assert str(path) in message
    assert message.isprintable()
    assert ".safetensors" in error.value.hint
    return message.replace(str(path), "FILE")


@forms
def test_every_form_gives_the_tensors_that_were_saved(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    FORMS[form](state_dict(), path)
    loaded = load_weights(locate_weights(str(path)), SHAPES)
    assert loaded.keys() == SHAPES.keys()
    for name, tensor in state_dict().items():
        assert np.array_equal(loaded[name], tensor.numpy())


@forms
def test_only_the_tensors_that_are_asked_for_are_loaded(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    FORMS[form](state_dict(**{"classifier.6.weight": torch.ones(1000, 4)}), path)
    assert load_weights(locate_weights(str(path)), {"features.0.bias": (64,)}).keys() == {"features.0.bias"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("form", ["zip.pth", "weights.safetensors"])
def test_what_a_recipe_does_not_need_takes_no_memory(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    FORMS[form](state_dict(**{"classifier.0.weight": torch.ones(64 << 20)}), path)
    weights = locate_weights(str(path))
    load_weights(weights, {"features.0.bias": (64,)})
    # From here on the peak counts anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    load_weights(weights, SHAPES)
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
    assert refusal(path, layers.shapes("pool5")) == "FILE lacks features.0.weight and 24 more"


@forms
def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    FORMS[form](state_dict() | {"features.0.weight": torch.ones(64, 1, 3, 3)}, path)
    assert refusal(path) == "FILE: features.0.weight has the shape (64, 1, 3, 3) instead of (64, 3, 3, 3)"


@forms
def test_integers_are_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    FORMS[form](state_dict() | {"features.0.bias": torch.ones(64, dtype=torch.int32)}, path)
    assert refusal(path) == "FILE: features.0.bias holds int32 instead of floating-point numbers"


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
    loaded = load_weights(locate_weights(str(path)), SHAPES)
    assert all(np.array_equal(loaded[name], tensor.to(dtype).float().numpy()) for name, tensor in state_dict().items())


def test_a_value_that_is_not_a_tensor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"features.0.weight": 3, "features.0.bias": torch.ones(64)}, path)
    assert refusal(path) == "FILE: features.0.weight is not a tensor"
    torch.save([torch.ones(64)], path)
    assert refusal(path) == "cannot read weights from FILE, which may be damaged: it is not a state dict"


@forms
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, form: str, kept: float) -> None:
    path = tmp_path / form
    FORMS[form](state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert "FILE, which may be damaged" in refusal(path)


def safetensors(header: bytes, length: int | None = None) -> bytes:
    """A file of that header and no data; `length` is what the file says of the header's length."""
    return struct.pack("<Q", len(header) if length is None else length) + header


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("shape", [(10**15,), (64, 3, 3, 10**9)])
def test_no_memory_is_allocated_for_a_tensor_that_is_larger_than_its_file(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path, size = tmp_path / "weights.safetensors", 4 * int(np.prod(shape))
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, size]} for name in SHAPES}
    path.write_bytes(safetensors(json.dumps(header).encode()))
    assert_refused_in_little_memory(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("length", [1 << 30, 1 << 62])
def test_no_memory_is_allocated_for_a_header_that_is_longer_than_its_file(tmp_path: Path, length: int) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(safetensors(b"{}", length))
    assert_refused_in_little_memory(path)


def assert_refused_in_little_memory(path: Path) -> None:
    torch.save({}, path.with_name("empty.pth"))
    refusal(path.with_name("empty.pth"))  # the imports of the first refusal are not measured
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    assert "FILE, which may be damaged" in refusal(path)
    assert peak_bytes() - before < 64 << 20


def test_a_type_that_torch_does_not_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(state_dict(), path)
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"S32"'))
    assert "FILE, which may be damaged" in refusal(path)


def test_an_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, **{name: tensor.numpy() for name, tensor in state_dict().items()})
    assert "cannot read weights from FILE" in refusal(path)


def test_a_compressed_pth_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights/data.pkl", bytes(1 << 20))
    assert refusal(path).endswith("FILE, which may be damaged: it is compressed, which torch.save never does")


def test_a_pickle_that_needs_more_memory_than_there_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    save_zip(state_dict(), path)

    def greedy(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(weights_module, "read_state_dict", greedy)
    assert refusal(path) == "FILE, which may be damaged, needs more memory than there is"


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


@pytest.mark.parametrize(
    ("name", "save"),
    [("zip.pth", save_zip), ("old.pth", save_old), ("raw.pth", save_raw), ("raw.safetensors", save_raw)],
)
def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, name: str, save: Save) -> None:
    path, trace = tmp_path / name, tmp_path / "trace"
    intruder = Intruder(trace)
    save({"features.0.weight": intruder, "features.0.bias": intruder}, path)
    message = refusal(path)
    assert not trace.exists()
    assert "weights_only" not in message
    assert "unsafe" not in message
    # Nothing is wrong with the code itself: an ordinary unpickler runs it.
    pickle.loads(pickle.dumps(intruder))
    assert trace.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    assert (
        refusal(path) == "cannot read weights from FILE, which may be damaged: it is not a state dict of tensors only"
    )


def test_a_file_that_does_not_exist_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"the weights file .* does not exist") as error:
        locate_weights(str(tmp_path / "nowhere.pth"))
    assert "`weights=" in error.value.hint
    with pytest.raises(WeightsUnavailable, match=r"the weights file .* does not exist"):
        locate_weights(str(tmp_path))


def test_a_file_is_identified_by_its_content_and_found_again_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(state_dict(), "mine.pth")
    found = locate_weights("mine.pth")
    assert (found.name, found.source) == ("mine.pth", str(tmp_path / "mine.pth"))
    assert found.sha256 == hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()


def test_random_weights_are_torchvisions_and_leave_the_callers_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torchvision.models.vgg16().state_dict()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    loaded = load_weights(locate_weights("random:5"), layers.shapes("fc1"))
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.keys() == layers.shapes("fc1").keys()
    assert all(np.array_equal(tensor, expected[name].numpy()) for name, tensor in loaded.items())


def test_every_seed_has_a_digest_of_its_own() -> None:
    assert len({locate_weights(f"random:{seed}").sha256 for seed in range(20)}) == 20
    assert locate_weights("random:007") == locate_weights("random:007")
    assert locate_weights("random:007").sha256 == locate_weights("random:7").sha256


@pytest.mark.parametrize(
    "source", ["random:", "random:x", "random:-1", "random:1.5", f"random:{2**64}", "random:" + "9" * 5000]
)
def test_a_seed_that_is_not_a_number_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match="seed") as error:
        locate_weights(source)
    assert "random:0" in error.value.hint


def test_the_shipped_weights_are_those_that_were_made() -> None:
    recorded = re.search(r'^SHA256 = "([0-9a-f]{64})"$', MAKE.read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert hashlib.sha256(Path(shipped_path()).read_bytes()).hexdigest() == recorded
    assert locate_weights("oxford").sha256 == recorded


def test_the_shipped_weights_are_all_that_pool5_needs() -> None:
    shapes = layers.shapes("pool5")
    loaded = load_weights(locate_weights("oxford"), shapes)
    assert len(loaded) == 26
    assert {array.dtype for array in loaded.values()} == {np.dtype(np.float32)}
    with pytest.raises(WeightsMismatch, match="lacks classifier"):
        load_weights(locate_weights("oxford"), layers.shapes("fc1"))


def test_the_shipped_weights_are_oxfords_rounded_to_float16(photos: Path) -> None:
    loaded = load_weights(locate_weights("oxford"), layers.shapes("pool5"))
    with np.load(photos / "vgg16_conv_oxford.npz") as oxford:
        assert set(oxford.files) == loaded.keys()
        for name, tensor in loaded.items():
            assert np.array_equal(tensor, oxford[name].astype(np.float16))


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    digest = weights_module.file_digest
    monkeypatch.setattr(weights_module, "file_digest", lambda path: hashed.append(path) or digest(path))
    file = tmp_path / "weights.pth"
    file.write_bytes(b"some weights")
    first, again = locate_weights(str(file)), locate_weights(str(file))
    # It changed a moment ago, and may change again without a sign.
    assert first == again
    assert len(hashed) == 2
    monkeypatch.setattr(weights_module, "RECENT_NS", 0)
    assert {locate_weights(str(file)).sha256 for _ in range(3)} == {first.sha256}
    assert len(hashed) == 3
    file.write_bytes(b"longer weights")
    assert locate_weights(str(file)).sha256 == hashlib.sha256(b"longer weights").hexdigest()
