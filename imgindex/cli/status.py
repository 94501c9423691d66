"""imgindex status: what the index is and holds."""

from __future__ import annotations

from typing import Any

from imgindex.cli import options
from imgindex.cli.output import choose_format, emit
from imgindex.reports.formats import Document


def command(
    index: options.Index = None,
    format: options.Formats = None,
    json: options.Json = False,
    out: options.Out = None,
) -> int:
    """Tell what the index holds: counts, recipe, sizes on disk, roots, last runs."""
    from imgindex.index import ImageIndex

    chosen = choose_format(format, json, out)
    with ImageIndex.open(options.find_index(index)) as opened:
        status = opened.status()
    if chosen == "paths":
        rows = [{"path": root} for root in status["roots"]]
    else:
        rows = [{"what": name, "value": value} for name, value in _lines(status)]
    emit(Document(status, rows, ["what", "value"]), chosen, out)
    return 0


def _lines(status: dict[str, Any]) -> list[tuple[str, str]]:
    recipe, sizes = status["recipe"], status["bytes"]
    lines = [
        ("index", status["index"]),
        ("images", f"{status['images']:,}"),
        ("absent", f"{status['absent']:,} (gone from disk; shown again when they come back)"),
        ("failures", f"{status['failures']:,}"),
        ("recipe", f"{recipe['name']}: {recipe['cut']}, {recipe['side']} px, {recipe['dimension']} numbers"),
        ("weights", f"{recipe['weights']} (sha256 {recipe['weights_sha256'][:12]}…)"),
        ("vectors", f"{status['store']} in {status['segments']} segments, {_megabytes(sizes['segments'])}"),
        ("catalogue", _megabytes(sizes["catalogue"])),
        ("derived", _megabytes(sizes["derived"])),
        ("search", _search(status["search"], status["target_recall"])),
    ]
    lines += [("precision", _precision(receipt)) for receipt in status["precision"]]
    lines += [("root", root) for root in status["roots"]]
    lines += [("run", _run(run)) for run in status["runs"]]
    return lines


def _search(receipt: dict[str, Any] | None, target: float) -> str:
    if receipt is None:
        return "exact"
    how = f"nprobe {receipt['nprobe']}, refine {receipt['refine']}"
    found = f"recall@10 {receipt['recall']:.3f} of {receipt['queries']} queries (target {target:g})"
    made = f"made in {receipt['seconds']:,.0f} s"
    if receipt["recall"] < receipt["target"]:
        found += ", so searches are exact"
    return f"{receipt['factory']} over {receipt['rows']:,} rows, {how}: {found}, {made}"


def _precision(receipt: dict[str, Any]) -> str:
    kept = f"{receipt['overlap']:.1%} of the 10 nearest are those of fp32"
    return f"{receipt['precision']}: {kept}, cosine at least {receipt['cosine']:.5f} ({receipt['pictures']} pictures)"


def _run(run: dict[str, Any]) -> str:
    counts = ", ".join(
        f"{name} {run[name]}"
        for name in ("found", "added", "updated", "renamed", "reused", "removed", "restored", "failed")
        if run.get(name)
    )
    return f"{run['started_at']} {run['command']}: {counts or 'nothing'} ({run['seconds']:.1f} s)"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
