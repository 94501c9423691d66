"""Formats that Pillow cannot decode by itself, or not in every version: how they are told, and what teaches it."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plugin:
    """A package that teaches Pillow a format: its module, Pillow's name of the format, and what to install."""

    module: str
    format: str
    package: str


PLUGINS = {
    "HEIC": Plugin("pillow_heif", "HEIF", "imgindex[heif]"),
    "JPEG XL": Plugin("pillow_jxl", "JXL", "pillow-jxl-plugin"),
    "AVIF": Plugin("PIL.AvifImagePlugin", "AVIF", "--upgrade pillow"),
}

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})


def load_for(data: bytes) -> None:
    """Teach Pillow the format of a file, if it needs that and the package is installed."""
    plugin = PLUGINS.get(kind(data))
    if plugin:
        _load(plugin.module)


def kind(data: bytes) -> str:
    """Name the format of a file that Pillow may need help with, by its first bytes; else ""."""
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "JPEG XL"
    if data[4:8] != b"ftyp":
        return ""
    box = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    brands = {box[at : at + 4] for at in range(0, len(box), 4)}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if brands & _HEIF_BRANDS else ""


@functools.cache
def _load(module: str) -> None:
    try:
        plugin = importlib.import_module(module)
    except ImportError:
        return
    # pillow_jxl registers on import, pillow_heif when told.
    getattr(plugin, "register_heif_opener", lambda: None)()
