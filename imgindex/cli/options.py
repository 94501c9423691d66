"""The options that several commands share, the exit codes, and where the index is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from enum import Enum
from typing import Annotated

import typer

from imgindex.errors import IndexNotFound, UsageError
from imgindex.recipe import DEFAULT, RECIPES
from imgindex.storage.paths import on_this_machine

# Exit codes of results that are not errors; errors.py has the exit codes of errors.
SOME_FAILED = 3
LEAK_FOUND = 4
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


# Devices and precisions are checked here, before any work: otherwise the first new image that is embedded would show
# that one is missing, after the index was made.
def _check_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name):
        raise UsageError(f"unknown device {name!r}", hint="choose auto, cpu, cuda, cuda:N or mps")
    if name not in ("auto", "cpu"):
        from imgindex.encoders.devices import choose_device

        choose_device(name)
    return name


def _check_precision(name: str) -> str:
    if name not in ("auto", "int8", "bf16", "fp16", "fp32"):
        raise UsageError(f"unknown precision {name!r}", hint="choose auto, int8, bf16, fp16 or fp32")
    return name


def _check_weights(source: str | None) -> str | None:
    if source == "":
        raise UsageError("--weights '' names no file", hint="is a variable empty?")
    return source


def _check_ray(address: str | None) -> str | None:
    if address is not None:
        from imgindex.nodes.cluster import check_address

        check_address(address)
    return address


RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME",
        help=f"For a new index: {', '.join(RECIPES)}.",
        show_default=DEFAULT,
    ),
]
Size = Annotated[
    int | None,
    typer.Option("--size", metavar="N", help="For a new index: pixels of a side of vgg16-pool5, a multiple of 32."),
]
Index = Annotated[
    str | None,
    typer.Option("--index", metavar="DIR", help=f"The index; else ${VARIABLE}, else the nearest {HOME}."),
]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="SQL", help="Only images that fulfil it: width > 1000 and tags match 'cat'."),
]
FormatName = Annotated[
    Format | None,
    typer.Option(
        "--format", metavar="FORMAT", help="table, tsv, csv, json, jsonl or paths.", show_default="table, or by --out"
    ),
]
FormatWithoutPaths = Annotated[
    Format | None,
    typer.Option(
        "--format", metavar="FORMAT", help="table, tsv, csv, json or jsonl.", show_default="table, or by --out"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
Out = Annotated[
    str | None,
    typer.Option("--out", metavar="FILE", help="Write the answer to a file, in the format of its ending."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.")]
DeviceName = Annotated[
    str, typer.Option("--device", metavar="NAME", callback=_check_device, help="auto, cpu, cuda, cuda:N or mps.")
]
Precision = Annotated[
    str, typer.Option("--precision", metavar="NAME", callback=_check_precision, help="auto, int8, bf16, fp16 or fp32.")
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", metavar="N", min=1, help="Images in a batch.", show_default="by the machine"),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", min=1, max=256, help="Images decoded at once.", show_default="by the machine"
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="HOST:PORT",
        envvar="IMGINDEX_RAY",
        show_envvar=False,
        callback=_check_ray,
        help="Compute on this Ray cluster, or local; else $IMGINDEX_RAY.",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait while another process writes to the index.")]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        callback=_check_weights,
        help="A VGG-16 state dict (.pth or .safetensors), or random:SEED.",
    ),
]
Null = Annotated[
    bool, typer.Option("-0", "--null", help="Paths end in NUL, not newline: from stdin, and with --format paths.")
]
# with_files in files.py adds these two.
NullOut = Annotated[bool, typer.Option("-0", "--null", help="With --format paths: end each in NUL, not newline.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that imgindex did not write.")]

Similar = Annotated[
    bool, typer.Option("--similar", help="Also show images that are only near; they may show something else.")
]
NearDistance = Annotated[
    float | None,
    typer.Option(
        "--distance",
        metavar="D",
        min=0,
        help="With --similar: how far apart they may be (Euclidean).",
        show_default="calibrated for the recipe",
    ),
]
Rotations = Annotated[bool, typer.Option("--rotations", help="Also find copies that were turned by 90°, 180° or 270°.")]
Flips = Annotated[bool, typer.Option("--flips", help="Also find mirrored copies.")]


def check_distance(distance: float | None, *, similar: bool) -> None:
    """Raise UsageError for a distance that has no effect."""
    if distance is not None and not similar:
        raise UsageError("--distance has an effect on similar images only", hint="add --similar")


def find_index(given: str | None) -> str:
    """Return the folder of the index that a command reads. Raises IndexNotFound, UsageError."""
    if given == "":
        raise UsageError("--index '' names no folder", hint="is a variable empty?")
    named = given or os.environ.get(VARIABLE)
    if named:
        return on_this_machine(named)
    for folder in _upwards():
        if os.path.isdir(os.path.join(folder, HOME)):
            return os.path.join(folder, HOME)
    raise IndexNotFound(f"there is no {HOME} in this folder or above it")


def find_or_place_index(given: str | None) -> str:
    """Return the folder where `add` finds or makes the index: as `find_index`, else .imgindex in this folder."""
    try:
        return find_index(given)
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
