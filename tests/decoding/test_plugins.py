"""Formats that Pillow needs a plug-in for: HEIC is always read, for the others a missing package is named."""

from __future__ import annotations

import functools
import io
import sys
import types

import pillow_heif
import pytest
from PIL import Image, ImageFile
from samples import NOISE, SMOOTH, encoded, reason

from imgindex.decoding import plugins
from imgindex.decoding.decode import decode

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


@pytest.fixture
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    monkeypatch.setattr(Image, "OPEN", {name: at for name, at in Image.OPEN.items() if name not in {"HEIF", "JXL"}})
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name not in {"HEIF", "JXL"}])
    for name in ("_load_heif", "_load_optional"):
        monkeypatch.setattr(plugins, name, functools.cache(getattr(plugins, name).__wrapped__))


@pytest.mark.usefixtures("no_plugins")
def test_the_package_that_is_missing_is_named() -> None:
    assert reason(b"\xff\x0a" + bytes(50)) == "JPEG XL needs `pip install pillow-jxl-plugin`"
    assert reason(b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf" + bytes(50)) == "not an image that Pillow can read"
    assert reason(b"\0\0\0\x1cftypisom\0\0\0\0isomiso2mp41" + bytes(50)) == "not an image that Pillow can read"


@pytest.mark.usefixtures("no_plugins")
def test_pillow_heif_is_registered_once_and_only_for_such_files(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = []

    class FakeHeif(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self._size, self._mode = (4, 4), "RGB"
            self.tile = [ImageFile._Tile("raw", (0, 0, 4, 4), 24, "RGB")]

    def register_heif_opener() -> None:
        registered.append(1)
        Image.register_open("HEIF", FakeHeif, lambda prefix: prefix[4:12] == b"ftypheic")

    fake = types.SimpleNamespace(register_heif_opener=register_heif_opener)
    monkeypatch.setitem(sys.modules, "pillow_heif", fake)
    decode(encoded(NOISE))
    assert registered == []
    assert [decode(HEIC).format for _ in range(3)] == ["HEIF"] * 3
    assert registered == [1]


def test_heic_files_are_read() -> None:
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(SMOOTH)).save(file)
    picture = decode(file.getvalue())
    assert (picture.width, picture.height, picture.format) == (64, 48, "HEIF")
    assert reason(file.getvalue()[:-200])
