"""Metadata in WebDataset shards: 000.json, 000.txt and 000.cls in a tar describe the picture 000.jpg beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping

# What describes a picture has the picture's name up to its first dot, and one of these endings.
JSON, CAPTION, CLASS = ".json", ".txt", ".cls"
ENDINGS = (JSON, CAPTION, CLASS)
# A larger file is something else.
MOST_BYTES = 64 << 10

Value = str | float


def is_description(path: str, size: int) -> bool:
    """Return whether a member may describe a picture."""
    return size <= MOST_BYTES and path.endswith(ENDINGS)


def descriptions(path: str) -> dict[str, str]:
    """Return the paths of what may describe a picture, by their endings.

    >>> descriptions("a/000.seg.png")[".json"]
    'a/000.json'
    """
    folder, slash, name = path.rpartition("/")
    key = f"{folder}{slash}{name.partition('.')[0]}"
    return {ending: key + ending for ending in ENDINGS}


def metadata(texts: Mapping[str, bytes]) -> dict[str, Value]:
    """Return key → value of the contents of descriptions by their endings; what cannot be read has no values.

    The fields of a JSON object are keys; one that is a list or an object is kept as JSON. A text is the caption, a
    class is cls, unless the JSON has such a field.

    >>> metadata({".json": b'{"width": 9, "url": null}', ".txt": b" a dog ", ".cls": b"3"})
    {'caption': 'a dog', 'cls': 3, 'width': 9}
    """
    found: dict[str, Value] = {}
    if caption := _text(texts.get(CAPTION, b"")):
        found["caption"] = caption
    if label := _text(texts.get(CLASS, b"")):
        found["cls"] = int(label) if label.isdecimal() and len(label) < 19 else label
    try:
        fields = json.loads(texts.get(JSON, b"null"))
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict):
        found |= {key: _value(value) for key, value in fields.items() if value is not None}
    return found


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return ""


def _value(value: object) -> Value:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, (str, float)):
        return value
    return json.dumps(value, ensure_ascii=False)
