"""Draws the plots of README and docs/ from the results of the benchmarks.

python benchmarks/plots.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib  # type: ignore[import-not-found]

matplotlib.use("agg")
from matplotlib import pyplot  # type: ignore[import-not-found]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
OURS, THEIRS, GREY = "#0b6e99", "#c4551d", "#666666"
DPI = 150
TICKS = (20, 50, 100, 200)
# For the curves of duplicates: the least precision that is drawn, and the recipe whose changes are drawn.
LEAST, SHOWN = 0.6, "vgg16-pool5 at 320 px"

Rows = list[dict[str, Any]]


def pareto(rows: Rows) -> None:
    """Quality of answers against images a second, from files to index, for imgindex and another program."""
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    ours = sorted((row for row in rows if "--size" in row["contender"]), key=lambda row: row["images_per_second"])
    for axis, score, title in zip(axes, ("map", "nmi"), ("mAP", "NMI of k-means"), strict=True):
        axis.plot(
            [row["images_per_second"] for row in ours], [row[score] for row in ours], "o-", color=OURS, label="imgindex"
        )
        for row in ours:
            place = row["images_per_second"], row[score]
            label = row["contender"].removeprefix("imgindex --size ") + " px"
            axis.annotate(label, place, textcoords="offset points", xytext=(4, 5), color=OURS, fontsize=8)
        for row in rows:
            if row not in ours:
                color = OURS if row["contender"].startswith("imgindex") else THEIRS
                label = row["contender"].removeprefix("imgindex --recipe ")
                axis.plot(row["images_per_second"], row[score], "s", color=color, label=label)
        axis.set_xscale("log")
        axis.set_xticks(TICKS, labels=[str(tick) for tick in TICKS], minor=False)
        axis.xaxis.set_minor_formatter(pyplot.NullFormatter())
        axis.margins(0.12)
        axis.set_xlabel("images a second, whole process, files to index")
        axis.set_ylabel(title)
        axis.grid(alpha=0.3)
        axis.legend(loc="lower left")
    save(figure, "pareto.png")


def recall(rows: Rows, name: str) -> None:
    """Recall@10 against queries a second, one query at a time, for each size of collection."""
    sizes = sorted({(row["n"], row["d"]) for row in rows})
    figure, axes = pyplot.subplots(1, len(sizes), figsize=(5 * len(sizes), 3.8), constrained_layout=True, squeeze=False)
    for axis, (n, d) in zip(axes[0], sizes, strict=True):
        for contender in dict.fromkeys(row["contender"] for row in rows):
            curve = [row for row in rows if (row["n"], row["d"], row["contender"]) == (n, d, contender)]
            speed = [1000 / row["ms_one"] for row in curve]
            axis.plot(speed, [row["recall_at_10"] for row in curve], "o-", markersize=4, label=contender)
        axis.set_xscale("log")
        axis.set_title(f"{n:,} × {d}")
        axis.set_xlabel("queries a second, one at a time")
        axis.set_ylabel("recall@10")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    save(figure, name)


def growth(rows: Rows) -> None:
    """Milliseconds a query against the number of rows, exact and by the index."""
    figure, axis = pyplot.subplots(figsize=(5.5, 3.6), constrained_layout=True)
    for contender in ("faiss.knn", "imgindex exact fp32", "imgindex exact fp16", "imgindex index"):
        points = {}
        for row in rows:
            if row["contender"] == contender and (contender != "imgindex index" or "chosen" in row["setting"]):
                points[row["n"]] = row["ms_one"]
        if points:
            axis.plot(sorted(points), [points[n] for n in sorted(points)], "o-", label=contender)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("rows of 512 numbers")
    axis.set_ylabel("ms a query")
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)
    save(figure, "growth.png")


def index_growth(rows: Rows) -> None:
    """What a head does for each command against the number of images."""
    curves = {
        "first_similar_ms": "the first `similar` of a process",
        "status_ms": "`status`",
        "add_ms": "committing one image",
        "similar_ms": "`similar`, later",
        "condition_ms": "the same among a hundred images",
        "open_ms": "opening the index",
    }
    figure, axis = pyplot.subplots(figsize=(6.5, 3.8), constrained_layout=True)
    images = [row["rows"] for row in rows]
    for field, label in curves.items():
        axis.plot(images, [row[field] for row in rows], "o-", label=label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("images in the index")
    axis.set_ylabel("ms")
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    save(figure, "index-growth.png")


def duplicates(result: dict[str, Any]) -> None:
    """Precision against recall of pairs over the distance, for each recipe; recall by change over the distance."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12.5, 4.2), constrained_layout=True)
    chosen = {row["recipe"]: row for row in result["thresholds"]}
    colours = pyplot.get_cmap("viridis")
    for number, (name, threshold) in enumerate(chosen.items()):
        curve = [row for row in result["rows"] if row["recipe"] == name and row["precision"] > LEAST]
        fc1 = "fc1" in name
        colour = THEIRS if fc1 else colours(0.9 * number / len(chosen))
        style = "--" if fc1 else "-"
        recall, precision = [row["recall"] for row in curve], [row["precision"] for row in curve]
        left.plot(recall, precision, style, color=colour, label=f"{name}: {threshold['distance']:.2f}")
        left.plot(threshold["recall"], threshold["precision"], "o", color=colour, markersize=5)
    left.axhline(0.99, color=GREY, linewidth=0.8, linestyle=":")
    left.set_xlim(0.3, 1.02)
    left.set_xlabel("recall: changed copies found")
    left.set_ylabel("precision: right pairs of those found")
    left.legend(fontsize=7.5, loc="lower left", title="recipe: its distance (●)", title_fontsize=8)
    curve = [row for row in result["rows"] if row["recipe"] == SHOWN]
    facts = {"recipe", "distance", "recall", "precision", "photos_with_another_so_near"}
    for name in (name for name in curve[0] if name not in facts):
        right.plot([row["distance"] for row in curve], [row[name] for row in curve], label=name, linewidth=1.2)
    distances = [row["distance"] for row in curve]
    right.plot(distances, [row["precision"] for row in curve], "--", color="black", label="precision")
    right.axvline(chosen[SHOWN]["distance"], color=GREY, linewidth=0.8, linestyle=":")
    right.set_xlabel(f"distance, {SHOWN}")
    right.set_ylabel("share of copies found, by change")
    right.legend(fontsize=7.5, loc="upper left", bbox_to_anchor=(1.01, 1))
    for axis in (left, right):
        axis.grid(alpha=0.3)
    save(figure, "duplicates.png")


def save(figure: Any, name: str) -> None:
    # Without the date and the versions, so that equal results give equal files.
    figure.savefig(ROOT / "docs" / "plots" / name, dpi=DPI, metadata={"Software": None})
    pyplot.close(figure)


def load(name: str) -> Rows | None:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    rows: Rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def main() -> None:
    """Draw every plot whose results exist."""
    (ROOT / "docs" / "plots").mkdir(exist_ok=True)
    if rows := load("end_to_end"):
        pareto(rows)
    if rows := load("search"):
        recall(rows, "recall.png")
        if smaller := load("search-growth"):
            growth(smaller + [row for row in rows if row["d"] == 512])
    if rows := load("growth"):
        index_growth(rows)
    path = RESULTS / "duplicates.json"
    if path.exists():
        duplicates(json.loads(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
