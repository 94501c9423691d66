"""imgindex status: what the index holds."""

from __future__ import annotations

from typing import Any

from imgindex.cli import options
from imgindex.cli.output import choose_format, count, duration, emit, size
from imgindex.export.tables import Table
from imgindex.recipe import CUSTOM

RUN_COUNTS = ("found", "added", "updated", "renamed", "reused", "removed", "restored", "failed")


def command(
    index: options.Index = None,
    format: options.FormatName = None,
    json: options.Json = False,
    out: options.Out = None,
) -> int:
    """Show what the index holds.

    Counts, recipe, sizes on disk, the folders that were added, and the last runs. --format paths prints the folders.

    Examples:
      imgindex status
      imgindex status --json
    """
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        status = opened.status()
    if chosen == "paths":
        rows = [{"path": root} for root in status["roots"]]
    else:
        rows = [{"what": name, "value": value} for name, value in _lines(status)]
    emit(Table(status, rows, ["what", "value"]), chosen, out)
    return 0


def _lines(status: dict[str, Any]) -> list[tuple[str, str]]:
    recipe, sizes = status["recipe"], status["bytes"]
    segments = count(status["segments"], "segment")
    lines = [
        ("index", status["index"]),
        ("images", f"{status['images']:,}"),
        ("missing", _missing(status["missing"])),
        ("failures", f"{status['failures']:,}"),
        ("recipe", f"{recipe['name']}: {recipe['cut']}, {recipe['side']} px, {recipe['dimension']:,} numbers"),
        _weights(recipe),
        ("vectors", f"{status['store']} in {segments}, {size(sizes['segments'])}"),
        ("catalogue", size(sizes["catalogue"])),
        ("derived", size(sizes["derived"])),
        ("search", _search(status["search"], status["target_recall"])),
    ]
    lines += [("smoothed", _smoothed(status["smoothed"]))] if status["smoothed"] else []
    lines += [("precision", _precision(measured)) for measured in status["precision"]]
    lines += [("root", root) for root in status["roots"]]
    lines += [("run", _run(run)) for run in status["runs"]]
    return lines


def _weights(recipe: dict[str, Any]) -> tuple[str, str]:
    if recipe["network"] == CUSTOM:
        return "encoder", f"of your own (digest {recipe['weights_sha256'][:12]}…); `add` needs it, so add in Python"
    return "weights", f"{recipe['weights']} (sha256 {recipe['weights_sha256'][:12]}…)"


def _missing(number: int) -> str:
    if not number:
        return "0"
    gone = "its file is gone; it returns with it" if number == 1 else "their files are gone; they return with them"
    return f"{number:,} ({gone})"


def _search(built: dict[str, Any] | None, target: float) -> str:
    if built is None:
        return "exact"
    if "address" in built:
        return _milvus(built)
    how = f"{built['factory']} over {count(built['rows'], 'row')}, nprobe {built['nprobe']}, refine {built['refine']}"
    recall = f"recall@10 {built['recall']:.3f} of {count(built['queries'], 'query', 'queries')} (target {target:g})"
    if built["recall"] < built["target"]:
        recall += ", so searches are exact"
    return f"{how}: {recall}, made in {duration(built['seconds'])}"


def _milvus(state: dict[str, Any]) -> str:
    how = f"{state['kind']}, ef {state['ef']}" if state["kind"] == "HNSW" else state["kind"]
    recall = f"recall@10 {state['recall']:.3f} of {count(state['queries'], 'query', 'queries')}"
    known = f"{how} over {count(state['rows'], 'row')}: {recall} (target {state['target']:g})"
    behind = f"behind by {count(state['behind'], 'image')}" if state["behind"] else "up to date"
    return f"{state['address']} {known}, {behind}" if state["kind"] else f"{state['address']}, {behind}"


def _smoothed(made: dict[str, Any]) -> str:
    rows = f"{count(made['rows'], 'averaged vector')}, {size(made['bytes'])}, made in {duration(made['seconds'])}"
    stale = [f"{made[name]:,} {words}" for name, words in (("newer", "newer"), ("gone", "gone")) if made[name]]
    return f"{rows}: {', '.join(stale) or 'up to date'}"


def _precision(measured: dict[str, Any]) -> str:
    overlap = f"{measured['overlap']:.1%} of the 10 nearest are those of fp32"
    pictures = count(measured["pictures"], "image")
    return f"{measured['precision']}: {overlap}, cosine at least {measured['cosine']:.5f} ({pictures})"


def _run(run: dict[str, Any]) -> str:
    counts = ", ".join(f"{run[name]:,} {name}" for name in RUN_COUNTS if run.get(name))
    return f"{run['started_at']} {run['command']}: {counts or 'nothing'} ({duration(run['seconds'])})"
