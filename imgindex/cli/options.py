"""Options that several commands share, and where the index is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from enum import Enum
from typing import Annotated

import typer

from imgindex.errors import IndexNotFound, UsageError

# Exit codes that are no error of imgindex's: those stand with their errors.
SOME_FAILED = 3
INTERRUPTED = 130

HOME = ".imgindex"
VARIABLE = "IMGINDEX_DIR"


class Format(str, Enum):
    """The formats of every answer."""

    table = "table"
    tsv = "tsv"
    csv = "csv"
    json = "json"
    jsonl = "jsonl"
    paths = "paths"


# Said at once, and not first by torch when the first new picture comes, in an index that was made meanwhile.
def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name):
        raise UsageError(f"there is no device {name!r}", hint="choose auto, cpu, cuda, cuda:N or mps")
    return name


def _precision(name: str) -> str:
    if name not in ("auto", "fp32", "bf16", "fp16"):
        raise UsageError(f"there is no precision {name!r}", hint="choose auto, fp32, bf16 or fp16")
    return name


RecipeName = Annotated[
    str, typer.Option("--recipe", metavar="NAME", help="auto, vgg16-fc1, vgg16-pool5 or article; for a new index.")
]
Size = Annotated[
    int | None,
    typer.Option("--size", metavar="N", help="Side in pixels of vgg16-pool5, a multiple of 32; for a new index."),
]
Index = Annotated[
    str | None,
    typer.Option("--index", metavar="DIR", help=f"The index; else ${VARIABLE}, else the nearest {HOME}."),
]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="SQL", help="Only images that fulfil it, as width > 1000 and tags match 'cat'."),
]
Formats = Annotated[Format | None, typer.Option("--format", help="How the answer is printed.")]
Json = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
Out = Annotated[
    str | None,
    typer.Option("--out", metavar="FILE", help="Write the answer to a file, in the format of its ending."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.")]
DeviceName = Annotated[
    str, typer.Option("--device", metavar="NAME", callback=_device, help="auto, cpu, cuda, cuda:N or mps.")
]
Precision = Annotated[
    str, typer.Option("--precision", metavar="NAME", callback=_precision, help="auto, fp32, bf16 or fp16.")
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Pictures a batch.", show_default="by the machine"),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=256, help="Images decoded at once.", show_default="by the machine"),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait while another process writes to the index.")]
Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="FILE", help="A VGG-16 state dict (.pth .safetensors .npz), or random:SEED."),
]

NearDistance = Annotated[
    float | None,
    typer.Option(
        "--distance",
        metavar="D",
        min=0,
        help="How far apart near images may be (Euclidean).",
        show_default="calibrated for the recipe",
    ),
]
Rotations = Annotated[
    bool, typer.Option("--rotations", help="Also find what is turned by 90°, 180° or 270°; embeds every image anew.")
]
Flips = Annotated[bool, typer.Option("--flips", help="Also find what is mirrored; embeds every image anew.")]


def find_index(wanted: str | None) -> str:
    """Return where the index is that a command reads. Raises IndexNotFound, UsageError."""
    if wanted == "":
        raise UsageError("--index '' names no folder")
    named = wanted or os.environ.get(VARIABLE)
    if named:
        return named
    for folder in _upwards():
        if os.path.isdir(os.path.join(folder, HOME)):
            return os.path.join(folder, HOME)
    raise IndexNotFound(f"there is no {HOME} in this folder or above it")


def place_index(wanted: str | None) -> str:
    """Return where `add` finds or makes the index: as `find_index`, else .imgindex in this folder."""
    try:
        return find_index(wanted)
    except IndexNotFound:
        return os.path.join(os.getcwd(), HOME)


def _upwards() -> Iterator[str]:
    folder = os.getcwd()
    while True:
        yield folder
        parent = os.path.dirname(folder)
        if parent == folder:
            return
        folder = parent
