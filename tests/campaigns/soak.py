"""Eight clients use `imgindex serve` while `add` runs over and over beside it, and the server stays as it is.

Each client does what a page does: views, thumbnails, similar images, conditions, tags, edits that it undoes, maps and
events. Meanwhile pictures are made, renamed and deleted, and another process adds them; clients begin `add` as jobs
too.
Every answer is right, or a refusal that the page can explain: the index is locked or has changed, the image is gone.
Memory, files and threads of the server do not grow.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import campaign
import httpx
import numpy as np
from campaign import Figures, main
from PIL import Image
from serving import Running, running
from small_recipe import SMALL

from imgindex import ImageIndex

SECONDS = {"ci": 4, "full": 1800}
CLIENTS = 8
# Pictures at first, and about as many at any time, so that the memory that the index needs stays the same.
PICTURES = {"ci": 60, "full": 1000}
# Of the pictures, those that one round changes.
SHARE = 0.02
COMPACT_EVERY = 20
FOLDERS, STAYS = 5, "0"
# Seconds between two runs of `add`, in which clients can change the index, and between two looks at the server.
PAUSE, LOOK = 1.0, {"ci": 0.5, "full": 5.0}
# The first share of the time, in which caches fill; growth after that, as a share of what there is.
WARM_UP, MOST_GROWTH = 1 / 3, 0.05
# Seconds in which a change is sent again that was refused because the index was locked or had changed.
PATIENCE = 60.0
PART = struct.Struct("<III")
LOCKED, CHANGED = 423, 412
ANY = {"If-Match": "*"}


class Wrong(Exception):
    """An answer that a client must not get."""


class Pictures:
    """The folders that change, but for the first: so clusters always have images, and their number stays the same.

    Each picture has pixels of its own number, and so a vector of its own.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number
        folder.mkdir(parents=True)
        self._next = 0
        for _ in range(number):
            self.put()

    def put(self) -> None:
        """Make a picture, at once as a whole."""
        unfinished = self.folder.parent / "unfinished.png"
        unfinished.write_bytes(drawn(self._next))
        folder = self.folder / str(self._next % FOLDERS)
        folder.mkdir(exist_ok=True)
        os.replace(unfinished, folder / f"{self._next}.png")
        self._next += 1

    def change(self, dice: random.Random) -> None:
        """Delete some pictures, make as many new ones, and rename one."""
        there = sorted(path for path in self.folder.rglob("*.png") if path.parent.name != STAYS)
        *gone, renamed = dice.sample(there, max(2, round(SHARE * self.number)))
        for path in gone:
            path.unlink()
            if self._next % FOLDERS == int(STAYS):
                self._next += 1
            self.put()
        number = renamed.stem.partition(" ")[0]
        os.rename(renamed, renamed.with_name(f"{number} {dice.randrange(1000)}.png"))


def drawn(number: int) -> bytes:
    """Return a PNG that no other number has."""
    noise = np.random.default_rng(number).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((96, 64), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


class Client:
    """One client: does one thing after the other, and counts what it was answered."""

    def __init__(self, server: Running, pictures: Pictures, seed: int) -> None:
        self.http = server.client()
        self.pictures = pictures
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.lost: list[str] = []
        self.seconds: list[float] = []

    def work(self, end: float) -> None:
        """Do things until the time is over and each was done."""
        tasks: list[Callable[[], None]] = [
            self.look, self.alike, self.send, self.filter, self.tag, self.edit, self.cluster_view, self.map,
            self.events, self.curate, self.enlarge, self.save, self.lists, self.add,
        ]  # fmt: skip
        self.random.shuffle(tasks)
        weights = [3 if task in (self.look, self.alike, self.filter, self.enlarge) else 1 for task in tasks]
        chosen = iter(tasks)
        while len(self.lost) < 5:
            task = next(chosen, None)
            if task is None:
                if time.monotonic() > end:
                    break
                (task,) = self.random.choices(tasks, weights)
            try:
                task()
                self.done[task.__name__] += 1
            except Exception as error:  # noqa: BLE001  nothing else may be raised
                self.lost.append(f"{task.__name__}: {type(error).__name__}: {error}")
        self.http.close()

    def ask(self, method: str, path: str, *allowed: int, **options: Any) -> httpx.Response:
        """Return an answer; another status than success and those that are allowed is an error."""
        started = time.monotonic()
        answer = self.http.request(method, path, **options)
        self.seconds.append(time.monotonic() - started)
        self.statuses[str(answer.status_code)] += 1
        if answer.status_code not in (200, 201, 202, *allowed):
            raise Wrong(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        if answer.status_code >= 400 and answer.headers["content-type"] != "application/problem+json":
            raise Wrong(f"{method} {path}: {answer.status_code} without a problem document")
        return answer

    def get(self, path: str, **query: Any) -> Any:
        return self.ask("GET", path, params=query).json()

    def change(self, method: str, path: str, body: Any, *allowed: int) -> httpx.Response:
        """Change something by what was seen, again and again while others change the index."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            seen = self.ask("GET", "/tags").headers["etag"]
            headers = {"If-Match": seen}
            answer = self.ask(method, path, LOCKED, CHANGED, *allowed, json=body, headers=headers)
            if answer.status_code not in (LOCKED, CHANGED):
                return answer
            time.sleep(self.random.uniform(0.05, 0.4))
        raise Wrong(f"{method} {path}: refused for {PATIENCE:.0f} seconds")

    def hold(self, promise: bool, words: str) -> None:
        if not promise:
            raise Wrong(words)

    def some_view(self, body: Any) -> list[int]:
        """Make a view, and return the ids of a part of it."""
        made = self.ask("POST", "/views", json=body).json()
        offset = self.random.randrange(max(1, made["total"] - 20))
        rows = self.get(f"/views/{made['view']}/rows", offset=offset, limit=48)
        self.hold(rows["total"] == made["total"], "a view has another total than before")
        self.hold(len(rows["ids"]) == min(48, made["total"] - offset), "a view has another number of ids")
        known = {image["id"] for image in rows["images"]}
        self.hold(known <= set(rows["ids"]), "a view has images that it does not name")
        return list(rows["ids"])

    # What a client does.

    def look(self) -> None:
        """Scroll in all images: rows and their thumbnails."""
        ids = self.some_view({"sort": self.random.choice(["id", "-id", "path", "-size", "-added_at"])})
        pack = self.ask("GET", "/thumbnails", params={"ids": ",".join(map(str, ids))}).content
        places, at = [], 0
        while at < len(pack):
            place, kind, length = PART.unpack_from(pack, at)
            data = pack[at + PART.size : at + PART.size + length]
            self.hold(kind == 1 or data[8:12] == b"WEBP", "a thumbnail is no WebP")
            places.append(place)
            at += PART.size + length
        self.hold(sorted(places) == list(range(len(ids))), "a pack lacks an image")

    def alike(self) -> None:
        """Images similar to one of the index."""
        id = self.random.choice(self.some_view({}))
        answer = self.ask("GET", f"/images/{id}/similar", 404, params={"n": 20})
        if answer.status_code != 404:
            self.check_matches(answer.json()["matches"], 20)

    def send(self) -> None:
        """Images similar to a picture that is sent."""
        answer = self.ask("POST", "/similar", content=drawn(self.random.randrange(10**6)), params={"n": 5})
        self.check_matches(answer.json()["matches"], 5)

    def check_matches(self, matches: Sequence[Any], n: int) -> None:
        distances = [match["distance"] for match in matches]
        self.hold(len(matches) == n and distances == sorted(distances), "matches are missing or not in order")

    def filter(self) -> None:
        """Images by a condition."""
        folder = self.random.randrange(FOLDERS)
        ids = self.some_view({"where": f"folder like '%/{folder}' and width = 96", "sort": "-path"})
        images = self.get("/images", ids=",".join(map(str, ids)))
        self.hold(all(Path(image["path"]).parent.name == str(folder) for image in images), "a condition does not hold")

    def tag(self) -> None:
        """Tag some images, find them by the tag, and take it off."""
        name = f"soak {self.random.randrange(10**9)}"
        ids = sorted(self.random.sample(self.some_view({}), 3))
        done = self.change("PUT", "/images/tags", {"ids": ids, "add": [name]}, 404)
        if done.status_code == 404:  # one is gone meanwhile
            return
        found = self.ask("POST", "/views", json={"tag": name}).json()["total"]
        self.hold(found <= 3, "a tag is on other images")
        self.change("PUT", "/images/tags", {"ids": ids, "remove": [name]}, 404)

    def edit(self) -> None:
        """Merge two clusters, and undo that."""
        first = self.get("/clusterings/1")
        labels = self.random.sample(range(first["k"]), 2)
        made = self.change("POST", "/clusterings/1/edits", {"kind": "merge", "labels": labels}).json()
        self.hold(made["k"] == first["k"] - 1, "a merge leaves another number of clusters")
        back = self.change("POST", f"/clusterings/{made['id']}/edits", {"kind": "undo"}).json()
        self.hold(back["id"] == 1, "an undo leads elsewhere")

    def cluster_view(self) -> None:
        """The images of a cluster, those nearest to each centroid, and a comparison of two clusterings."""
        self.some_view({"clustering": 1, "label": 0, "sort": "margin"})
        self.hold(
            len(self.get("/clusterings/1/samples", n=6)) == self.get("/clusterings/1")["k"], "samples are missing"
        )
        self.get("/clusterings/1/diff/1")

    def map(self) -> None:
        """The map, in three kinds of colours."""
        by = self.random.choice(["cluster", "folder", "tag"])
        data = self.ask("GET", "/map", params={"method": "pca", "by": by}).content
        number = int.from_bytes(data[:4], "little")
        self.hold(number > 0 and len(data) > 4 + 10 * number, "a map is too short")

    def events(self) -> None:
        """The stream of events begins with the newest commit."""
        with self.http.stream("GET", "/events") as stream:
            self.hold(stream.status_code == 200, "no events")
            self.hold(next(stream.iter_lines()) == "event: commit", "events begin with something else")

    def curate(self) -> None:
        """Duplicates and outliers."""
        self.get("/duplicates", exact=True, limit=10)
        self.hold(len(self.get("/outliers", n=5)) == 5, "outliers are missing")

    def enlarge(self) -> None:
        """A large picture; its file may be gone."""
        id = self.random.choice(self.some_view({"sort": "-id"}))
        answer = self.ask("GET", f"/images/{id}/picture", 400, 404, params={"side": 512})
        self.hold(answer.status_code != 200 or answer.content[8:12] == b"WEBP", "a picture is no WebP")

    def save(self) -> None:
        """A list of images as a file."""
        view = self.ask("POST", "/views", json={"where": "id % 7 = 0"}).json()["view"]
        self.ask("GET", f"/views/{view}/export", params={"format": self.random.choice(["paths", "csv", "jsonl"])})

    def lists(self) -> None:
        """What the page asks for when it opens."""
        for path in ("/server", "/status", "/failures", "/tags", "/clusterings", "/maps", "/jobs", "/openapi.json"):
            self.ask("GET", path)

    def add(self) -> None:
        """Bring the index up to date by a job, unless the other process does that just now."""
        job = self.change("POST", "/jobs", {"kind": "add"}).json()
        while job["state"] in ("queued", "running"):
            time.sleep(0.2)
            answer = self.ask("GET", f"/jobs/{job['id']}", 404)
            if answer.status_code == 404:  # it ended, and many others after it
                return
            job = answer.json()
        locked = (job["problem"] or {}).get("type") == "urn:imgindex:IndexLocked"
        self.hold(job["state"] == "done" or locked, f"an add by a job failed: {job['problem']}")


class Adder:
    """Changes the pictures and runs `add` over and over, in processes of their own, until it is stopped."""

    def __init__(self, folder: Path, pictures: Pictures, seed: int) -> None:
        self.folder, self.pictures = folder, pictures
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.lost: list[str] = []
        self.is_over = threading.Event()

    def work(self) -> None:
        """Do so."""
        while not self.is_over.is_set():
            self.pictures.change(self.random)
            self.run("add", self.pictures.folder.name, "--wait")
            if self.done["add"] % COMPACT_EVERY == 0:
                self.run("compact", "--wait")
            self.is_over.wait(PAUSE)

    def run(self, name: str, *options: str) -> None:
        command = [sys.executable, "-m", "imgindex", name, *options]
        environment = os.environ | {"PYTHONPATH": os.fspath(campaign.TESTS.parent)}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        self.done[name] += 1
        if done.returncode not in (0, 3):  # 3: a picture was deleted before it was read
            self.lost.append(f"{name} ended with {done.returncode}: {done.stderr[-500:]}")


def rss_mib(pid: int) -> float:
    """Return the memory of a process and its children."""
    pids = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
    pages = 0
    for one in pids:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def look_at(pid: int) -> dict[str, float]:
    """Return what a server has now."""
    return {
        "rss_mib": rss_mib(pid),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
    }


def watch(pid: int, seconds: float, pause: float) -> Iterator[tuple[float, dict[str, float]]]:
    """Yield what a server has, at each time in seconds since the beginning."""
    started = time.monotonic()
    while (now := time.monotonic() - started) < seconds:
        yield now, look_at(pid)
        time.sleep(pause)


def growth(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Return the median of some values, and how much the line through them rises from the first time to the last."""
    slope, _ = np.polyfit(times, values, 1)
    return float(np.median(values)), float(slope * (times[-1] - times[0]))


def run(size: str, *, seed: int = 0) -> Figures:
    """Let the clients work for some time, and see what the server has become."""
    seconds = SECONDS[size]
    with tempfile.TemporaryDirectory(prefix="imgindex-soak-") as place:
        folder = Path(place)
        pictures = Pictures(folder / "photos", PICTURES[size])
        adder = Adder(folder, pictures, seed)
        adder.run("add", "photos", *SMALL)
        with ImageIndex.open(folder / ".imgindex") as index:
            index.cluster(6)
        with running(folder) as server:
            clients = [Client(server, pictures, seed * CLIENTS + number + 1) for number in range(CLIENTS)]
            end = time.monotonic() + seconds
            threads = [threading.Thread(target=client.work, args=(end,)) for client in clients]
            threads.append(threading.Thread(target=adder.work))
            for thread in threads:
                thread.start()
            seen = list(watch(server.process.pid, seconds, LOOK[size]))
            for thread in threads[:-1]:
                thread.join()
            adder.is_over.set()
            threads[-1].join()
            code, _, remarks = server.stop()
        with ImageIndex.open(folder / ".imgindex") as index:
            sound = index.verify(full=True)
            left = len(index.clusterings)
    lost = [words for client in clients for words in client.lost] + adder.lost
    lost += [f"the server ended with {code}: {remarks[:500]}"] if code or remarks else []
    lost += [] if sound.ok else [f"verify finds {sound.problems}"]
    lost += [] if left == 1 else [f"{left - 1} edits were not undone"]
    after = [(at, what) for at, what in seen if at >= WARM_UP * seconds]
    grown: dict[str, Any] = {}
    for name in after[0][1]:
        median, rise = growth([at for at, _ in after], [what[name] for _, what in after])
        grown[name] = {"median": round(median, 1), "rise_of_the_fitted_line": round(rise, 2)}
        if size == "full" and rise > MOST_GROWTH * median:
            lost.append(f"{name} of the server rise by {rise:.1f} of {median:.1f}")
    took = sorted(one for client in clients for one in client.seconds)
    return {
        "clients": CLIENTS,
        "seconds": seconds,
        "images": PICTURES[size],
        "requests": len(took),
        "answered_in_s": {"median": round(took[len(took) // 2], 3), "99 %": round(took[int(0.99 * len(took))], 3)},
        "statuses": dict(sorted(sum((client.statuses for client in clients), Counter()).items())),
        "done": dict(sorted(sum((client.done for client in clients), Counter()).items())),
        "beside_it": dict(adder.done),
        "after_warm_up": grown,
        "lost": lost,
    }


if __name__ == "__main__":
    main("soak", run)
