"""Fuzzes the files that a user passes besides pictures: weights, which may be pickles, and sample submissions."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_bytes import Outcome, altered, tried
from safetensors.torch import save

from imgindex.encoders.base import WeightsFile
from imgindex.encoders.weights import load_weights
from imgindex.export.csv_input import read_text
from imgindex.export.submission import image_ids, sample_submission

SHAPES: dict[str, tuple[int, ...]] = {"features.0.weight": (4, 3, 3, 3), "features.0.bias": (4,)}
HUGE = 10**12
ALPHABET = tuple("0123456789,,,\"'\n\r\t;é\0 abcIDlabel")


class RunsCode:
    """Pickles to a call that writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


class Weights:
    """Cases of weights files, altered or made to do harm."""

    def __init__(self, place: Path) -> None:
        self.place, self.marker = place, place / "code-was-run"
        dice = np.random.default_rng(0)
        state = {name: torch.from_numpy(dice.normal(size=shape).astype(np.float32)) for name, shape in SHAPES.items()}
        self.sound = {
            ".safetensors": [save(state)],
            ".pth": [_pth(state), _pth(state, _use_new_zipfile_serialization=False)],
        }
        self.harmful = harmful(state, self.marker)
        self.all = [data for kind in self.sound.values() for data in kind]
        for suffix, kind in self.sound.items():
            for data in kind:
                assert self._load(suffix, data)[0] == "load: works"

    def case(self, dice: random.Random) -> list[Outcome]:
        """Load one altered or harmful file."""
        if dice.random() < 0.05:
            suffix, make = dice.choice(self.harmful)
            data = make()
        else:
            suffix = dice.choice(tuple(self.sound))
            data = altered(dice.choice(self.sound[suffix]), dice, self.all)
            suffix = dice.choice((suffix,) * 9 + tuple(self.sound))
        return [self._load(suffix, data)]

    def _load(self, suffix: str, data: bytes) -> Outcome:
        path = self.place / f"weights{suffix}"
        path.write_bytes(data)
        outcome = tried("load", lambda: load_weights(WeightsFile("weights", str(path), "0" * 64), SHAPES) and None)
        if self.marker.exists():
            self.marker.unlink()
            return "code was run", AssertionError(f"a {suffix} file ran code")
        return outcome


def harmful(state: dict[str, Any], marker: Path) -> list[tuple[str, Callable[[], bytes]]]:
    """Return endings, and what makes files that would run code, or take memory without end, where a reader let them.

    The largest take seconds to make.
    """
    name, other = SHAPES
    code = RunsCode(marker)
    long_header = json.dumps({name: {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}}).encode()
    overlapping = json.dumps(
        {key: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 432]} for key, shape in SHAPES.items()}
    ).encode()
    sound = _pth(state)
    return [
        *((suffix, lambda: pickle.dumps(code)) for suffix in (".pth", ".safetensors")),
        (".pth", lambda: pickle.dumps({name: code})),
        (".pth", lambda: _pth({name: code, other: state[other]})),
        (".pth", lambda: _pth({name: code, other: state[other]}, _use_new_zipfile_serialization=False)),
        (".pth", lambda: _with_member(sound, "data.pkl", [pickle.dumps({name: code})])),
        (".pth", lambda: _with_member(sound, "data.pkl", [b"(" * 100_000])),
        (".pth", lambda: _with_member(sound, "data/0", [bytes(1 << 20)] * 200, zipfile.ZIP_DEFLATED)),
        (".pth", lambda: _with_member(sound, "data.pkl", [bytes(1 << 20)] * 1200, zipfile.ZIP_DEFLATED)),
        (".safetensors", lambda: struct.pack("<Q", 2**63) + b"{}"),
        (".safetensors", lambda: struct.pack("<Q", len(long_header)) + long_header),
        (".safetensors", lambda: struct.pack("<Q", len(overlapping)) + overlapping + bytes(448)),
        (".safetensors", lambda: struct.pack("<Q", 100_000) + b"[" * 100_000),
    ]


def _pth(state: object, **options: Any) -> bytes:
    out = io.BytesIO()
    torch.save(state, out, **options)
    return out.getvalue()


def _with_member(archive: bytes, name: str, pieces: list[bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip in which the member of that name holds other data."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for member in old.namelist():
            if member.endswith("/" + name):
                other = zipfile.ZipInfo(member)
                other.compress_type = compression
                with new.open(other, "w") as file:
                    for piece in pieces:
                        file.write(piece)
            else:
                new.writestr(member, old.read(member))
    return out.getvalue()


class Samples:
    """Cases of sample submissions."""

    def __init__(self, place: Path) -> None:
        self.path = place / "sample.csv"
        self.ids = image_ids([f"/p/{number}.jpg" for number in range(20)], "stem")
        rows = "".join(f"{number},0\n" for number in range(20))
        self.sound = [("ImageID,label\n" + rows).encode(), ("\ufeffImageID,x,label\r\n0,,1\r\n").encode()]

    def case(self, dice: random.Random) -> list[Outcome]:
        """Read one altered sample, and fill it in."""
        if dice.random() < 0.3:
            data = "".join(dice.choices(ALPHABET, k=dice.choice((0, 1, 10, 100)))).encode()
        else:
            data = altered(dice.choice(self.sound), dice, [*self.sound, b'"', b"," * 200_000, b'"' + b"9" * 200_000])
        self.path.write_bytes(data)
        labels = dict.fromkeys(self.ids.values(), 1)
        failed = {"/p/cut.jpg": "cut"}
        return [
            tried("like", lambda: sample_submission(read_text(str(self.path)), self.ids, failed=failed).fill(labels))
        ]
