"""Writes the tables of README.md and docs/ from the results of benchmarks and campaigns, or checks them.

python benchmarks/tables.py [--check]
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from targets import targets

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
CAMPAIGNS = ROOT / "tests" / "campaigns" / "results"

SCORES = ("p_at_1", "map", "nmi")

Result = dict[str, Any]


def load(name: str) -> Result:
    result: Result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return result


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measured_on(result: Result) -> str:
    machine, versions = result["machine"], result["versions"]
    flags = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in machine["flags"]]
    half = "with " + ", ".join(flags) if flags else "no bf16 in hardware"
    names = ("torch", "faiss-cpu", "numpy")
    packages = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
    return f"{machine['cpu']}, {machine['cores']} cores ({half}), Python {machine['python']}, {packages}"


def quality() -> str:
    """The recipes and their sizes among the photos, for README."""
    whole, result = load("end_to_end"), load("recipes")
    names = {
        "imgindex --size 96": "`vgg16-pool5 --size 96`",
        "imgindex --size 160": "`vgg16-pool5 --size 160`",
        "imgindex --size 224": "`vgg16-pool5 --size 224`",
        "imgindex --size 320": "**`vgg16-pool5`**, 320 px",
        "imgindex --recipe efficientnet-lite2": "`efficientnet-lite2`",
    }
    rows = [
        [names[row["contender"]], *(f"{row[score]:.2f}" for score in SCORES)]
        for row in whole["rows"]
        if row["contender"] in names
    ]
    for name, fields in (
        ("`vgg16-pool5` without the mean", {"geometry": "letterbox", "side": 320, "vector": "gem"}),
        ("`vgg16-fc1`, with a random fc1", {"geometry": "letterbox", "side": 448, "vector": "fc1 random × 3"}),
        ("`article`, with a random fc1", {"geometry": "article", "side": 448, "vector": "fc1 random × 3 as is"}),
    ):
        row = next(
            row
            for row in result["rows"]
            if row["resampling"] == "bilinear" and all(row[field] == value for field, value in fields.items())
        )
        rows.append([name, *(f"{row[score]:.2f}" for score in SCORES)])
    photos = result["photos"]
    return "\n\n".join(
        [
            table(["recipe", "P@1", "mAP", "NMI of k-means"], rows),
            f"*{photos['images']} photos, {photos['classes']} kinds; a few points' difference means nothing at this "
            "number. No trained fc1 was at hand: its rows show a random one on Oxford's convolutions. All variants "
            "that were tried: [docs/decisions.md](docs/decisions.md).*",
        ]
    )


def speed() -> str:
    """Files to index, embedding, start and k-means, each against its baseline of the same run, for README."""
    start, cluster, embed, whole = load("start"), load("cluster"), load("embed"), load("end_to_end")
    folders = [
        [
            row["contender"].replace("imgindex", "imgindex add"),
            f"{row['images_per_second']:.0f}",
            *(f"{row[score]:.2f}" for score in ("p_at_1", "map", "nmi")),
        ]
        for row in whole["rows"]
    ]
    embedding = [
        [
            row["contender"],
            {"files": "from files", "model": "network alone"}.get(row["from"], "arithmetic alone"),
            f"{row['images_per_second']:.1f}",
            f"{row['times_the_article']:.1f} ×",
        ]
        for row in embed["rows"]
    ]
    starting = [
        [f"`{row['command']}`", f"{row['seconds']:.2f} s", f"{row['ratio_to_import_torch']:.2f} ×"]
        for row in start["rows"]
    ]
    clustering = [
        [row["contender"], f"{row['seconds']:.1f} s", f"{row['times_faster']:.1f} ×", f"{row['objective_ratio']:.3f}"]
        for row in cluster["rows"]
        if row["shape"] == "separated"
    ]
    title = f"k-means, {cluster['n']:,} × {cluster['d']:,}, k={cluster['k']}"
    return "\n\n".join(
        [
            table([f"{whole['images']:,} JPEGs, whole process", "images/s", "P@1", "mAP", "NMI"], folders),
            table([f"VGG-16 to fc1 at {embed['side']} px", "what", "images/s", "the article's script = 1"], embedding),
            table(["whole process", "time", "`import torch` = 1"], starting),
            table([title, "time", "faster than scikit-learn", "objective, scikit-learn = 1"], clustering),
            f"*Medians on {measured_on(embed)}. `make bench` does it on yours.*",
        ]
    )


def recipes() -> str:
    """Every variant that was measured, for docs/decisions.md."""
    result = load("recipes")
    rows = []
    for row in result["rows"]:
        less = row["map_less_ours"]
        rows.append(
            [
                row["weights"],
                row["geometry"],
                str(row["side"]),
                row["pixels"],
                row["resampling"],
                row["vector"],
                f"{row['p_at_1']:.3f}",
                f"{row['map']:.3f}",
                f"{row['nmi']:.3f}",
                f"{less[0]:+.3f} … {less[1]:+.3f}" if less else "**ours**",
                f"{row['gflop']:.1f}",
            ]
        )
    head = ["weights", "geometry", "px", "pixels", "resize", "vector", "P@1", "mAP", "NMI", "mAP − ours", "GFLOP"]
    return table(head, rows)


def clustering() -> str:
    """K-means on every shape of data, for docs/decisions.md."""
    result = load("cluster")
    rows = [
        [
            row["shape"],
            row["contender"],
            f"{row['seconds']:.3g}",
            f"{row['times_faster']:.1f} ×",
            f"{row['objective_ratio']:.4f}",
            f"{row['peak_mib_above_data']}",
            f"{row['smallest_cluster']}",
        ]
        for row in result["rows"]
    ]
    head = ["data", "by", "seconds", "faster", "objective ratio", "MiB above the data", "smallest cluster"]
    return "\n\n".join([table(head, rows), f"*{measured_on(result)}.*"])


def benchmarks() -> str:
    """What was to be reached, then every result as its benchmark printed it, for docs/benchmarks.md."""
    rows = [target.row() for target in targets(known)]
    parts = ["## What was to be reached", table(["what", "wanted", "measured", "reached"], rows)]
    for name in BENCHMARKS:
        result = known(name)
        if result is None:
            continue
        facts = {key: value for key, value in result.items() if not isinstance(value, list | dict)}
        facts.pop("benchmark")
        parts.append(f"## {name.replace('_', ' ').replace('-', ', ')}")
        options = ", ".join(f"{key} {value}" for key, value in facts.items())
        parts.append(f"`python benchmarks/bench_{result['benchmark']}.py`" + (f", {options}" if options else ""))
        parts.append(every_column(result["rows"]))
        parts += [
            f"{key}:\n\n{every_column(value)}"
            for key, value in result.items()
            if key in ("steps", "reading", "thresholds", "answers")
        ]
        parts.append(f"*{measured_on(result)}.*")
    return "\n\n".join(parts)


def known(name: str) -> Result | None:
    return load(name) if (RESULTS / f"{name}.json").exists() else None


def every_column(rows: list[Result]) -> str:
    """A table of rows, with all their values except lists."""
    names = dict.fromkeys(name for row in rows for name, value in row.items() if not isinstance(value, list))
    return table(
        [name.replace("_", " ") for name in names], [[cell(row.get(name, "")) for name in names] for row in rows]
    )


def cell(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def copies() -> str:
    """Which changed copies `duplicates` finds, and among which pictures it is wrong, for docs/duplicates.md."""
    result = load("copies")
    rows = [
        [row["change"], f"{row['copies_found']:.2f}", f"{row['within_the_distance']:.2f}"] for row in result["rows"]
    ]
    mean = ["**mean**", f"**{result['recall']:.2f}**", f"{result['recall_within_the_distance']:.2f}"]
    others = [group for group in result["groups"] if group["kind"] != "photo"]
    wrong = sum(group["wrong_pairs"] for group in result["groups"])
    kinds = "; ".join(group["kind"] for group in others)
    return "\n\n".join(
        [
            f"Found among {result['photos']} photographs, changed copies of each, and "
            f"{sum(group['pictures'] for group in others)} pictures that look alike and are not the same, at "
            f"{result['side']} px (`python benchmarks/bench_copies.py --photos photos.tar`):",
            table(["change", "found as a copy", "vector within the distance"], [*rows, mean]),
            f"**{wrong} wrong pairs**, among photographs and these: {kinds}. {result['compared_pairs']:,} pairs were "
            f"compared. Each took {result['processor_ms_a_pair']:.0f} ms of processor time, with the reading of both "
            f"files and all other steps, and {result['ms_a_pair']:.0f} ms on this machine. A second run took "
            f"{result['seconds_again']:.1f} s.",
            f"*{measured_on(result)}, load {result['machine']['load_average']:.0f} at the end.*",
        ]
    )


def groups() -> str:
    """How long the grading of many groups takes, for docs/duplicates.md."""
    result = load("groups")
    columns = [
        "groups",
        "images",
        "pairs compared",
        "groups found whole",
        "processor time",
        "a pair",
        "time, at a load of",
    ]
    rows = [
        [
            f"{row['groups']:,}",
            f"{row['images']:,}",
            f"{row['compared_pairs']:,}",
            f"{row['found_whole']:,}",
            f"{row['processor_seconds']:,.0f} s",
            f"{1000 * row['processor_seconds'] / row['compared_pairs']:.1f} ms",
            f"{row['seconds']:,.0f} s, {row['load']:.0f}",
        ]
        for row in result["rows"]
    ]
    counts = " ".join(str(row["groups"]) for row in result["rows"])
    steps = "; ".join(f"{step['step']} {step['seconds']:,.1f} s" for step in result["rows"][-1]["steps"])
    return "\n\n".join(
        [
            f"Groups of {result['copies']} files, JPEGs of {result['side']} px with vectors that were made up "
            f"(`python benchmarks/bench_groups.py --groups {counts}`):",
            table(columns, rows),
            f"The steps of the last: {steps}.",
            f"*{measured_on(result)}.*",
        ]
    )


def smoothing() -> str:
    """What averaging with neighbours changes, and what it costs, for docs/decisions.md."""
    result = load("smoothing")

    def both(row: Result, name: str) -> str:
        return "" if row[name] == "" else f"{row[name]:.3f} → {row[f'{name}_averaged']:.3f}"

    rows = [
        [
            row["what"],
            f"{row['images']:,}",
            *(both(row, name) for name in ("p_at_1", "map", "nmi")),
            "{:+.3f} … {:+.3f}".format(*row["map_interval"]),
        ]
        for row in result["rows"]
    ]
    steps = [
        [one["step"], f"{one['images']:,}", f"{one['processor_seconds']:,.1f} s", f"{one['peak_mib']:,} MiB"]
        for one in result["steps"]
    ]
    size = max(one["file_mb"] for one in result["steps"] if one["file_mb"] != "")
    return "\n\n".join(
        [
            table(["photos", "images", "P@1", "mAP", "NMI", "mAP, difference"], rows),
            table(["step", "images", "processor time", "peak memory"], steps),
            f"*{result['photos']} photos of {result['classes']} classes, and distractors "
            f"(`python benchmarks/bench_smoothing.py --photos photos.tar --rows {steps[-1][1].replace(',', '')}`). "
            f"The file of averages has {size:.0f} MB. "
            f"{measured_on(result)}.*",
        ]
    )


def campaigns() -> str:
    """What every campaign tried and what was lost, for docs/reliability.md."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(CAMPAIGNS.glob("*.json"))]
    parts = []
    for result in results:
        figures = dict(result["figures"])
        lost = figures.pop("lost")
        machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
        parts += [
            f"### {result['campaign']}",
            f"`python tests/campaigns/{result['campaign']}.py --size {result['size']} --seed {result['seed']}`: "
            f"{result['seconds']:,.0f} s, **{len(lost)} lost**.",
            table(["what", "figure"], flat(figures)),
            f"*{result['date']}, {machine}.*",
        ]
    return "\n\n".join(parts)


def flat(figures: dict[str, Any], before: str = "") -> Iterable[list[str]]:
    """Rows of names and figures, those of a nested group behind its name."""
    for name, value in figures.items():
        words = f"{before}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from flat(value, f"{words}: ")
        elif isinstance(value, list):
            yield [words, ", ".join(map(str, value)) or "none"]
        else:
            yield [words, f"{value:,}" if isinstance(value, int | float) else str(value)]


BENCHMARKS = (
    "end_to_end",
    "end_to_end-without-amx",
    "precision",
    "precision-without-amx",
    "embed",
    "embed-without-amx",
    "gpu",
    "decode",
    "scan",
    "sources",
    "start",
    "search",
    "search-growth",
    "smoothing",
    "cluster",
    "cluster-full",
    "store",
    "growth",
    "pipeline",
    "api",
    "serve",
    "review",
    "milvus",
    "ray",
    "duplicates",
)

PLACES: list[tuple[str, str, Callable[[], str]]] = [
    ("README.md", "quality", quality),
    ("README.md", "speed", speed),
    ("docs/decisions.md", "recipes", recipes),
    ("docs/decisions.md", "smoothing", smoothing),
    ("docs/decisions.md", "clustering", clustering),
    ("docs/benchmarks.md", "benchmarks", benchmarks),
    ("docs/duplicates.md", "copies", copies),
    ("docs/duplicates.md", "groups", groups),
    ("docs/reliability.md", "campaigns", campaigns),
]


def main() -> None:
    """Write the files whose tables have changed; with --check print their names instead and exit with 1."""
    check = "--check" in sys.argv[1:]
    for file, name, make in PLACES:
        path = ROOT / file
        old = path.read_text(encoding="utf-8")
        marks = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not marks.search(old):
            sys.exit(f"{file} has no place for {name}")
        text = make()
        new = marks.sub(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", old)  # type: ignore[misc]
        if new != old and check:
            sys.exit(f"{file}: the table {name} is not what the results say; make fix writes it")
        if new != old:
            path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
