"""State dicts without torch: what torch.load reads is read alike, and nothing else is."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imgindex.encoders.state_dict import NOT_A_STATE_DICT, read_state_dict

Save = Callable[[object, Path], None]


def save_zip(state: object, path: Path) -> None:
    torch.save(state, path)


def save_legacy(state: object, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


forms = pytest.mark.parametrize("save", [save_zip, save_legacy], ids=["zip", "legacy"])


def read(path: Path) -> dict[str, Any]:
    return read_state_dict(str(path), list)


@forms
def test_a_networks_state_is_what_torch_reads(tmp_path: Path, save: Save) -> None:
    layers = torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 2)
    state = torch.nn.Sequential(*layers).state_dict()
    assert type(state) is OrderedDict
    save(state, tmp_path / "it.pth")
    found, expected = read(tmp_path / "it.pth"), torch.load(tmp_path / "it.pth", weights_only=True)
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], tensor.numpy()) for name, tensor in expected.items())


@forms
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]
)
def test_each_type_of_number_is_read(tmp_path: Path, save: Save, dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1, 2], [3, 1, 0]]).to(dtype)
    save({"it": tensor}, tmp_path / "it.pth")
    found = read(tmp_path / "it.pth")["it"]
    assert np.array_equal(found, (tensor.float() if dtype == torch.bfloat16 else tensor).numpy())


@forms
def test_parts_of_one_storage_and_repeated_rows_are_read(tmp_path: Path, save: Save) -> None:
    whole = torch.arange(24.0).view(4, 6)
    state = {
        "whole": whole,
        "transposed": whole.T,
        "part": whole[1:3, 2:5],
        "repeated": whole[2:3].expand(1000, 6),
        "empty": whole[:0],
        "number": whole[3, 3],
        "parameter": torch.nn.Parameter(whole[1].clone()),
    }
    save(state, tmp_path / "it.pth")
    found = read(tmp_path / "it.pth")
    for name, tensor in state.items():
        assert found[name].shape == tuple(tensor.shape)
        assert np.array_equal(found[name], tensor.detach().numpy())


@forms
def test_values_that_are_not_tensors_are_returned(tmp_path: Path, save: Save) -> None:
    save({"epoch": 3, "name": "it", "rate": 0.5, "none": None, "more": [1, True]}, tmp_path / "it.pth")
    assert read(tmp_path / "it.pth") == {"epoch": 3, "name": "it", "rate": 0.5, "none": None, "more": [1, True]}


@forms
def test_writing_to_an_array_does_not_change_the_file(tmp_path: Path, save: Save) -> None:
    save({"it": torch.ones(1000)}, tmp_path / "it.pth")
    before = (tmp_path / "it.pth").read_bytes()
    found = read(tmp_path / "it.pth")["it"]
    found[:] = 7
    assert (tmp_path / "it.pth").read_bytes() == before
    assert read(tmp_path / "it.pth")["it"].max() == 1


@forms
def test_torch_is_not_imported(tmp_path: Path, save: Save) -> None:
    save({"it": torch.ones(3)}, tmp_path / "it.pth")
    code = (
        "import sys; from imgindex.encoders.state_dict import read_state_dict\n"
        f"print(read_state_dict({str(tmp_path / 'it.pth')!r}, list)['it'].sum(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3.0 False\n"


def legacy(state: bytes, order: bytes = pickle.dumps([], 2), numbers: bytes = b"") -> bytes:
    """A file of the older form with these pickles."""
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
    return head + state + order + numbers


def tensor(count: int, offset: int, shape: tuple[int, ...], steps: tuple[int, ...]) -> bytes:
    """A pickle of a dict with one tensor, which says these things of itself."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", count, None) if value == "here" else None

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, ("here", offset, shape, steps, False, OrderedDict())

    import io

    file = io.BytesIO()
    Pickler(file, 2).dump({"it": Tensor()})
    return file.getvalue()


@pytest.mark.parametrize(
    ("offset", "shape", "steps"), [(1, (4,), (1,)), (0, (5,), (1,)), (0, (2, 2), (3, 1)), (0, (1 << 40,), (1 << 7,))]
)
def test_a_tensor_that_is_larger_than_its_storage_is_refused(
    tmp_path: Path, offset: int, shape: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    path, numbers = tmp_path / "it.pth", struct.pack("<q4f", 4, 1, 2, 3, 4)
    path.write_bytes(legacy(tensor(4, 0, (4,), (1,)), pickle.dumps(["0"], 2), numbers))
    assert read(path)["it"].tolist() == [1, 2, 3, 4]
    path.write_bytes(legacy(tensor(4, offset, shape, steps), pickle.dumps(["0"], 2), numbers))
    with pytest.raises(ValueError, match="larger than its storage"):
        read(path)


@pytest.mark.parametrize(("offset", "shape", "steps"), [(-1, (3,), (1,)), (0, (-2,), (1,)), (0, (2,), (1, 1))])
def test_a_tensor_of_impossible_numbers_is_refused(
    tmp_path: Path, offset: int, shape: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    path = tmp_path / "it.pth"
    path.write_bytes(
        legacy(tensor(4, offset, shape, steps), pickle.dumps(["0"], 2), struct.pack("<q4f", 4, 1, 2, 3, 4))
    )
    with pytest.raises(ValueError, match=NOT_A_STATE_DICT):
        read(path)


def test_a_storage_beyond_the_end_of_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "it.pth"
    path.write_bytes(legacy(tensor(1 << 40, 0, (4,), (1,)), pickle.dumps(["0"], 2), struct.pack("<q4f", 4, 1, 2, 3, 4)))
    with pytest.raises((ValueError, OSError)):
        read(path)


@pytest.mark.parametrize(
    "state",
    [
        pickle.dumps({"it": bytearray(9)}, 5),  # an operation that allocates what a number says
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a place in the reader's memory that is far beyond the others
        b"\x80\x02cos\nsystem\nU\x04true\x85R.",
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02ctorch\nload\n.",
        b"\x80\x02ccollections\ndefaultdict\n.",
    ],
)
def test_other_operations_and_calls_are_refused(tmp_path: Path, state: bytes) -> None:
    path = tmp_path / "it.pth"
    path.write_bytes(legacy(state))
    with pytest.raises(ValueError, match=NOT_A_STATE_DICT):
        read(path)
