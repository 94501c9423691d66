"""The targets of imgindex, each with the figure of the last run of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

Result = dict[str, Any]
Load = Callable[[str], Result | None]


@dataclass(frozen=True, slots=True)
class Target:
    """A figure to reach, as words and a bound, and the figure that was measured."""

    what: str
    wanted: str
    found: float
    reached: bool

    def row(self) -> list[str]:
        return [self.what, self.wanted, f"{self.found:,.4g}", "yes" if self.reached else "**no**"]


def at_least(what: str, bound: float, found: float, unit: str = " ×") -> Target:
    return Target(what, f"≥ {bound:,g}{unit}", found, found >= bound)


def at_most(what: str, bound: float, found: float, unit: str = " ×") -> Target:
    return Target(what, f"≤ {bound:,g}{unit}", found, found <= bound)


def targets(load: Load) -> Iterator[Target]:
    """Yield every target whose results exist."""
    for name, make in PARTS.items():
        result = load(name)
        if result is not None:
            on = "without AMX: " if name.endswith("-without-amx") else ""
            yield from (replace(target, what=on + target.what) for target in make(result))


def value(result: Result, field: str, **wanted: Any) -> Any:
    """Return a field of the row that has these values."""
    return next(row[field] for row in result["rows"] if all(row.get(key) == found for key, found in wanted.items()))


def embed(result: Result) -> Iterator[Target]:
    def rate(contender: str) -> float:
        return float(value(result, "images_per_second", contender=contender))

    article = rate("article's loop, fp32")
    if not any(row["contender"] == "imgindex, vgg16-fc1, int8" for row in result["rows"]):
        return  # a result of before int8
    least = rate("imgindex, vgg16-fc1, int8")
    times = 13 if "amx_int8" in result["machine"]["flags"] else 5
    yield at_least("448 px to fc1, int8, files to index, against the article's loop", times, least / article)
    yield at_least("the same against the ceiling of the machine's convolutions", 0.8, least / rate("ceiling, int8"))
    if any(row["contender"] == "imgindex, vgg16-fc1, fp32" for row in result["rows"]):
        full = rate("imgindex, vgg16-fc1, fp32")
        yield at_least("448 px to fc1, fp32, files to index, against the article's loop", 1.5, full / article)


def precision(result: Result) -> Iterator[Target]:
    def times(contender: str, instructions: str = "all") -> float:
        of = {"side": 224, "contender": contender, "beside": "–", "instructions": instructions}
        return float(value(result, "int8_is_times_faster", **of))

    if result.get("answers"):
        of = {"side": 320, "vectors": "less the mean"}
        answers = {"rows": result["answers"]}
        same = value(answers, "same_of_10_nearest", precision="int8", **of)
        yield at_least("int8, 320 px less the mean: of the ten nearest, those of fp32", 0.975, same, "")
        for score, name in (("p_at_1", "P@1"), ("map", "mAP"), ("nmi", "NMI")):
            change = value(answers, score, precision="int8", **of) - value(answers, score, precision="fp32", **of)
            yield at_most(f"the same: {name} changes by", 0.005, abs(change), "")
    flags = result["machine"]["flags"]
    if "amx_int8" in flags:
        yield at_least("network alone at 224 px, int8 with AMX, against bf16", 1.3, times("imgindex, bf16"))
    elif "avx512_vnni" in flags:
        yield at_least("network alone at 224 px, int8 with VNNI, against bf16", 1.85, times("imgindex, bf16"))
        yield at_least("the same against fp32", 3.6, times("imgindex, fp32"))
    yield at_least("the same with AVX2 without VNNI, against fp32", 1.9, times("imgindex, fp32", "AVX2"))


def end_to_end(result: Result) -> Iterator[Target]:
    if not any(row["contender"] == "fastdup" for row in result["rows"]):
        return
    rate = value(result, "images_per_second", contender="fastdup")
    side, times = (160, 1.2) if "amx_int8" in result["machine"]["flags"] else (128, 0.8)
    ours = f"imgindex --size {side}"
    speed = value(result, "images_per_second", contender=ours)
    yield at_least(f"{side} px, whole process, against fastdup on the same files", times, speed / rate)
    for score, name in (("p_at_1", "P@1"), ("map", "mAP"), ("nmi", "NMI")):
        if score in result["rows"][0]:
            better = value(result, score, contender=ours) - value(result, score, contender="fastdup")
            yield at_least(f"{side} px, {name} less fastdup's", 0, better, "")

    lite2 = "imgindex --recipe efficientnet-lite2"
    if any(row["contender"] == lite2 for row in result["rows"]):
        speed = value(result, "images_per_second", contender=lite2)
        yield at_least("efficientnet-lite2, whole process, against fastdup on the same files", 1.3, speed / rate)
        for score, name in (("p_at_1", "P@1"), ("map", "mAP"), ("nmi", "NMI")):
            if score in result["rows"][0]:
                better = value(result, score, contender=lite2) - value(result, score, contender="fastdup")
                yield at_least(f"efficientnet-lite2, {name} less fastdup's", 0, better, "")


def gpu(result: Result) -> Iterator[Target]:
    steps = result["figures"]
    files, found = steps["files"], steps["correctness"]["fp16"]
    network = value(result, "images_per_second", what="ours, fp16, batch 256")
    share = value(result, "tflops", what="ours, fp16, batch 256") / steps["facts"]["product_fp16_tflops"]
    yield at_least("network alone on a GPU, fp16, against a product of matrices", 0.6, share)
    memory, whole = (files[name]["images_per_second"] for name in ("from_memory", "files_to_index_again"))
    yield at_least("the same, from memory to vectors, against the network alone", 0.9, memory / network)
    limit = min(network, files["decoding"]["images_per_second"])
    yield at_least("the same, from files to an index, against the slower of network and decoding", 0.8, whole / limit)
    parent = files["without_a_network"]["parent_us"]
    yield at_most("the same: processor time of the parent for an image, without a network", 60, parent, " µs")
    started = found["make_seconds"] + found["first_batch_seconds"]
    yield at_most("the same: seconds to the first vectors, with torch loaded", 2, started, " s")
    yield at_most("the same: the share of time in which the GPU stands idle", 0.05, steps["profile"]["idle_share"], "")


def decode(result: Result) -> Iterator[Target]:
    for kind in dict.fromkeys(row["files"] for row in result["rows"]):
        if "12 megapixels" in kind:
            found = value(result, "times_less_than_pillow", files=kind, contender="imgindex, one process")
            yield at_least("12-megapixel JPEGs, against full decoding", 3, found)


def scan(result: Result) -> Iterator[Target]:
    rows = [row for row in result["rows"] if "nothing changed" in row["contender"]]
    for row in rows:
        yield at_least(f"unchanged files a second, of {row['files']:,}", 10_000, row["files_per_second"], "")
        yield at_most(f"files opened, of {row['files']:,}", 0, row["opened"], "")


def sources(result: Result) -> Iterator[Target]:
    for row in result["rows"]:
        if row["part"] == "add" and row["source"].endswith(".zip"):
            yield at_least(f"images a second from {row['source']}, of files", 0.95, row["of_files"])
        elif row["part"] != "add" and row["source"] == "objects in a store":
            yield at_least("objects read a second, small ones, by the requests of add", 500, row["read_per_second"])
        elif row["part"] != "add":
            yield at_most(f"seconds to list {row['source']}, {row['files']:,} members", 15, row["seconds"], " s")
            yield at_most("its memory", 400, row["peak_mib"], " MiB")


def start(result: Result) -> Iterator[Target]:
    for command, bound in (("imgindex --help", 0.15), ("imgindex similar (indexed image)", 0.4)):
        found = value(result, "ratio_to_import_torch", command=command)
        yield at_most(f"`{command}`, of `import torch`", bound, found)
    new = "imgindex similar (new image)"
    for command, bound in ((new, 0.6), ("imgindex add (five new images)", 0.8)):
        if any(row["command"] == command and row.get("peak_mib") for row in result["rows"]):
            found = value(result, "ratio_to_import_torch", command=command)
            yield at_most(f"`{command}`, of `import torch`", bound, found)
            if command == new:
                yield at_most("its memory", 350, value(result, "peak_mib", command=command), " MiB")


def search(result: Result) -> Iterator[Target]:
    for n, d in sorted({(row["n"], row["d"]) for row in result["rows"] if row["n"] > 100_000}):
        of = {"n": n, "d": d}
        exact = value(result, "ms_one", contender="imgindex exact fp32", **of)
        raw = value(result, "ms_one", contender="faiss.knn", **of)
        yield at_most(f"exact search of {n:,} × {d}, against faiss.knn", 1.1, exact / raw)
        chosen = next(
            row
            for row in result["rows"]
            if (row["n"], row["d"], row["contender"]) == (n, d, "imgindex index") and "chosen" in row["setting"]
        )
        yield at_least(f"recall@10 of the index over {n:,} × {d}", 0.99, chosen["recall_at_10"], "")
        yield at_least(f"its speed against exact search over {n:,} × {d}, one query", 20, chosen["times_faster_one"])
        yield at_least("the same, a batch of queries", 12, chosen["times_faster_batch"])
        # Those settings of usearch that find as many, within 0.002, or more.
        peers = [
            row
            for row in result["rows"]
            if (row["n"], row["d"], row["contender"]) == (n, d, "usearch")
            and row["recall_at_10"] >= chosen["recall_at_10"] - 0.002
        ]
        for field, what in (("ms_one", "one query"), ("ms_batch", "a batch of queries")) if peers else ():
            ratio = chosen[field] / min(row[field] for row in peers)
            yield at_most(f"{what} among {n:,} × {d}: time at equal recall, usearch = 1", 1, ratio, "")


def cluster(result: Result) -> Iterator[Target]:
    for shape in dict.fromkeys(row["shape"] for row in result["rows"]):
        of = {"shape": shape, "contender": "imgindex"}
        yield at_most(f"k-means, {shape}: objective, scikit-learn = 1", 1, value(result, "objective_ratio", **of), "")
        if shape not in ("small", "digits"):
            yield at_least(f"k-means, {shape}: faster than scikit-learn", 5, value(result, "times_faster", **of))
        elif any(row["contender"] == "imgindex, 1 restart" for row in result["rows"]):
            one = {"shape": shape, "contender": "imgindex, 1 restart"}
            best = {"shape": shape, "contender": "scikit-learn, 10 restarts"}
            time = value(result, "seconds", **one)
            ratio = time / value(result, "seconds", shape=shape, contender="scikit-learn")
            yield at_most(f"k-means, {shape}: time of one restart, scikit-learn = 1", 1, ratio, "")
            ratio = time / value(result, "seconds", **best)
            yield at_most(f"k-means, {shape}: the same, the best of ten of scikit-learn = 1", 1, ratio, "")
            ratio = value(result, "objective", **one) / value(result, "objective", **best)
            yield at_most(f"k-means, {shape}: its objective, the best of ten of scikit-learn = 1", 1.001, ratio, "")


def copies(result: Result) -> Iterator[Target]:
    yield at_least("copies of 15 kinds that `duplicates` finds, of each photograph", 0.85, result["recall"], "")
    yield at_most("wrong pairs among photographs, pages, chats, drawings, coins, lists", 0, result["wrong_pairs"], "")


def growth(result: Result) -> Iterator[Target]:
    for row in result["rows"]:
        if row["rows"] >= 1_000_000:
            images = f"{row['rows']:,} images"
            yield at_most(f"{images}: opening reads of the catalogue", 5, row["open_mb"], " MB")
            yield at_most(f"{images}: to add one image, without decoding", 1500, row["add_ms"], " ms")
            yield at_most(f"{images}: an answer, after the first", 30, row["similar_ms"], " ms")
            yield at_most(f"{images}: an answer among a hundred by their ids", 100, row["condition_ms"], " ms")


def api(result: Result) -> Iterator[Target]:
    for row in result["rows"]:
        if row["search"] == "IvfSearch":  # below, all images are compared
            yield at_most(f"{row['rows']:,} images: an answer for a stored one", 1, row["similar_ms"], " ms")
        yield at_most(f"{row['rows']:,} images: opening the index", 50, row["open_ms"], " ms")


def pipeline(result: Result) -> Iterator[Target]:
    for row in result["rows"]:
        if row["run"] == "first" and row["pictures"] == "500 × 375":
            of = f"`add` at {row['side']} px, processor time of the parent for an image of {row['pictures']}"
            yield at_most(of, 60, row["parent_us"], " µs")


def serve(result: Result) -> Iterator[Target]:
    for row in result["rows"]:
        of = f"the page of {row['rows']:,} images"
        is_large = row["rows"] > 100_000
        yield at_most(f"{of}: ready", 3 if is_large else 1, row["ready_s"], " s")
        yield at_most(f"{of}: first paint", 300, row["paint_ms"], " ms")
        yield at_most(f"{of}: ten pictures", 1000, row["pictures_ms"], " ms")
        yield at_most(f"{of}: scrolled at 1280 px, between frames (p95)", 34, row["frame_p95_ms"], " ms")
        yield at_most(f"{of}: scrolled at 390 px, between frames (p95)", 34, row["narrow_frame_p95_ms"], " ms")
        yield at_most(f"{of}: a jump to 70 %", 500, row["jump_ms"], " ms")
        yield at_most(f"{of}: a jump with answers 80 ms later", 800, row["far_jump_ms"], " ms")
        yield at_most(f"{of}: similar images (p95)", 150, row["similar_p95_ms"], " ms")
        yield at_most(f"{of}: to fetch the map", 1000, row["map_ms"], " ms")
        yield at_most(f"{of}: the map is moved, between frames (p95)", 40, row["pan_p95_ms"], " ms")
        yield at_most(f"{of}: memory of the page with the grid", 20, row["heap_mb"], " MB")
        yield at_most(f"{of}: the same with the map", 60, row["map_heap_mb"], " MB")


def review(result: Result) -> Iterator[Target]:
    for row in result["rows"]:
        of = f"the page of duplicates with {row['groups']:,} groups"
        yield at_most(f"{of}, graded before: to the first pictures", 500, row["open_ms"], " ms")
        yield at_most(f"{of}: the same in another tab after decisions", 500, row["open_again_ms"], " ms")
        yield at_most(f"{of}: its memory", 20, row["heap_mb"], " MB")


def ray(result: Result) -> Iterator[Target]:
    share = float(value(result, "share_of_plain", contender="imgindex --ray local"))
    yield at_least("`add --ray local` against `add`, without the start", 0.85, share)


def milvus(result: Result) -> Iterator[Target]:
    for row in result["rows"]:
        of = f"{row['rows']:,} images that a Milvus server searches"
        yield at_most(f"{of}: an answer, against the server's own time", 1.5, row["ratio"])
        if row["kind"] == "HNSW":
            yield at_least(f"{of}: recall@10", 0.99, row["recall"], "")


PARTS: dict[str, Callable[[Result], Iterator[Target]]] = {
    "precision": precision,
    "precision-without-amx": precision,
    "embed": embed,
    "embed-without-amx": embed,
    "end_to_end": end_to_end,
    "end_to_end-without-amx": end_to_end,
    "gpu": gpu,
    "decode": decode,
    "scan": scan,
    "sources": sources,
    "start": start,
    "search": search,
    "growth": growth,
    "api": api,
    "pipeline": pipeline,
    "serve": serve,
    "review": review,
    "copies": copies,
    "cluster": cluster,
    "ray": ray,
    "milvus": milvus,
}
