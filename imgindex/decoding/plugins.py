"""Loads the plug-ins that Pillow needs for some formats, and recognises those formats by a file's first bytes."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plugin:
    """A module that registers a format with Pillow: Pillow's name of the format, and what to pass to pip install."""

    module: str
    format: str
    package: str


# Plug-ins that may be missing. HEIC is not among them: imgindex requires pillow-heif, because phones write HEIC.
OPTIONAL_PLUGINS = {
    "JPEG XL": Plugin("pillow_jxl", "JXL", "pillow-jxl-plugin"),
    # Part of Pillow since 11.3.
    "AVIF": Plugin("PIL.AvifImagePlugin", "AVIF", "--upgrade pillow"),
}

# The module that decodes camera raw files, and the endings of these files.
RAW_MODULE = "rawpy"
RAW_ENDINGS = frozenset({
    ".3fr", ".ari", ".arw", ".bay", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".drf", ".erf", ".fff", ".gpr",
    ".iiq", ".k25", ".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".ptx", ".raf", ".rw2",
    ".rwl", ".rwz", ".sr2", ".srf", ".srw", ".x3f",
})  # fmt: skip

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})


def load_for(data: bytes) -> None:
    """Load the plug-in that decodes a file, if Pillow needs one for its format and it is installed."""
    format = plugin_format(data)
    if format == "HEIC":
        _load_heif()
    elif format:
        _load_optional(OPTIONAL_PLUGINS[format].module)


def plugin_format(data: bytes) -> str:
    """Return which format with a plug-in a file has by its first bytes: HEIC, JPEG XL, AVIF, or "" for none."""
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "JPEG XL"
    if data[4:8] != b"ftyp":
        return ""
    box = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    brands = {box[at : at + 4] for at in range(0, len(box), 4)}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if brands & _HEIF_BRANDS else ""


def is_installed(module: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    # Not cached: a library may be installed while a program runs.
    importlib.invalidate_caches()
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def readable_raw_endings() -> frozenset[str]:
    """Return the endings of camera raw files if they can be decoded here, else none."""
    return RAW_ENDINGS if is_installed(RAW_MODULE) else frozenset()


@functools.cache
def _load_heif() -> None:
    # On the first HEIC file, not at start: loading the library takes each decoder process 40 ms.
    import pillow_heif

    pillow_heif.register_heif_opener()


@functools.cache
def _load_optional(module: str) -> None:
    """Import a plug-in, which registers its format on import; do nothing if it is not installed."""
    try:
        importlib.import_module(module)
    except ImportError:
        return
