"""The HTTP API: what each endpoint answers, and that it is what the command line prints with --json."""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import shutil
import struct
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from forking import ForkServer
from pictures import contents, draw
from PIL import Image
from serving import AUTHORIZED, at, client_of

from imgindex import ImageIndex
from imgindex.server.schema import ENDPOINTS

ANY = {"If-Match": "*"}


def printed(server: ForkServer, home: Path, *command: str) -> Any:
    """What the command line prints as JSON, with absolute paths."""
    done = server.run(*command, "--json", folder=home)
    assert done.code == 0, done.stderr
    return with_absolute_paths(json.loads(done.stdout), home)


def with_absolute_paths(data: Any, home: Path) -> Any:
    if isinstance(data, dict):
        return {
            name: str(home / value)
            if name in ("path", "nearest", "keep", "query") and isinstance(value, str)
            else with_absolute_paths(value, home)
            for name, value in data.items()
        }
    return [with_absolute_paths(one, home) for one in data] if isinstance(data, list) else data


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("/status", ["status"]),
        ("/failures", ["failures"]),
        ("/tags", ["tag", "--list"]),
        ("/clusterings", ["clusterings"]),
        ("/outliers?n=3", ["outliers", "-n", "3"]),
        ("/duplicates", ["duplicates"]),
        ("/duplicates?similar=true&keep=largest", ["duplicates", "--similar", "--keep", "largest"]),
        ("/clusterings/1/diff/1", ["cluster", "diff", "1", "1"]),
    ],
)
def test_an_answer_is_what_the_command_line_prints_as_json(
    client: httpx.Client, server: ForkServer, home: Path, path: str, command: list[str]
) -> None:
    client.put("/images/tags", json={"ids": [1, 2], "add": ["cat"]}, headers=ANY)
    answered = client.get(path)
    assert answered.status_code == 200
    assert answered.json() == printed(server, home, *command)


def test_a_clustering_is_that_of_clusterings_show(client: httpx.Client, server: ForkServer, home: Path) -> None:
    shown = json.loads(server.run("clusterings", "show", "1", "--json", "--out", "labels.csv", folder=home).stdout)
    assert client.get("/clusterings/1").json() == shown


def test_images_and_matches_are_those_of_the_command_line(client: httpx.Client, server: ForkServer, home: Path) -> None:
    listed = printed(server, home, "list")
    assert client.get("/images?ids=2,1").json() == [listed[1], listed[0]]
    assert client.get("/images/3").json() == listed[2]
    (answer,) = printed(server, home, "similar", "photos/a/1.png", "-n", "4")
    id = next(image["id"] for image in listed if image["path"].endswith("a/1.png"))
    assert client.get(f"/images/{id}/similar?n=4").json() == answer


def test_an_image_whose_file_is_gone_is_compared_by_its_stored_vector(client: httpx.Client, home: Path) -> None:
    before = client.get("/images/2/similar?n=3").json()
    Path(before["query"]).unlink()
    assert client.get("/images/2/similar?n=3").json() == before


def test_a_picture_that_is_sent_is_compared_and_not_kept(client: httpx.Client, home: Path) -> None:
    file = io.BytesIO()
    Image.open(home / "photos" / "a" / "3.png").save(file, "tiff")
    before = contents(home)
    answer = client.post("/similar?n=2", content=file.getvalue(), headers={"Content-Type": "image/tiff"}).json()
    assert Path(answer["matches"][0]["path"]).name == "3.png"
    assert answer["matches"][0]["distance"] == pytest.approx(0, abs=1e-3)
    assert contents(home) == before


def test_what_is_sent_and_is_not_a_picture_is_refused(client: httpx.Client) -> None:
    for body, status in ((b"", 400), (b"-----BEGIN KEY-----", 400), (b"<svg onload=x/>", 400)):
        refused = client.post("/similar", content=body)
        assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")
    form = client.post("/similar", files={"image": b"x"})
    assert form.status_code == 415


# Views.


def test_a_view_keeps_its_images_while_the_index_changes(client: httpx.Client, home: Path) -> None:
    made = client.post("/views", json={"where": "folder like '%photos/a'", "sort": "-width"})
    assert made.status_code == 201
    view = made.json()
    assert made.headers["location"] == f"/api/v1/views/{view['view']}"
    assert view["total"] == 6
    with ImageIndex.open(home / ".imgindex") as index:
        index.remove(home / "photos" / "a" / "4.png")
        rows = client.get(f"/views/{view['view']}/rows?offset=1&limit=3").json()
    assert rows["total"] == 6
    assert len(rows["ids"]) == 3
    assert [Path(image["path"]).name for image in rows["images"]] == ["3.png", "2.png"]
    assert client.get(f"/views/{view['view']}/rows?offset=99").json()["images"] == []
    ids = client.get(f"/views/{view['view']}/ids").json()
    assert len(ids) == 6
    assert ids[1:4] == rows["ids"] == client.get(f"/views/{view['view']}/ids?offset=1&limit=3").json()
    assert client.get(f"/views/{view['view']}/ids?limit=100001").status_code == 400
    assert client.get("/views/none").json()["type"] == "urn:imgindex:ViewNotFound"


def test_a_view_of_a_cluster_is_sorted_by_how_well_its_images_fit(client: httpx.Client, home: Path) -> None:
    clustering = client.get("/clusterings/1").json()
    with ImageIndex.open(home / ".imgindex") as index:
        fitted = index.clusterings.with_fit(index.clusterings[1])
    of = dict(
        zip(fitted.ids.tolist(), zip(fitted.labels, fitted.fit.distances, fitted.fit.margins, strict=True), strict=True)
    )
    for sort, column, sign in (("distance", 1, 1), ("-distance", 1, -1), ("margin", 2, 1)):
        seen = []
        for cluster in clustering["clusters"]:
            body = {"clustering": 1, "label": cluster["label"], "sort": sort}
            view = client.post("/views", json=body).json()
            ids = client.get(f"/views/{view['view']}/rows").json()["ids"]
            assert view["total"] == cluster["size"] == len(ids)
            assert {of[id][0] for id in ids} == {cluster["label"]}
            values = [sign * of[id][column] for id in ids]
            assert values == sorted(values)
            seen += ids
        assert sorted(seen) == sorted(of)
    nearest = client.get("/clusterings/1/samples?n=2").json()
    assert [len(ids) for ids in nearest] == [min(2, cluster["size"]) for cluster in clustering["clusters"]]
    for label, ids in enumerate(nearest):
        own = sorted(distance for of_label, distance, _ in of.values() if of_label == label)
        assert [of[id][1] for id in ids] == pytest.approx(own[: len(ids)])


@pytest.mark.parametrize("format", ["paths", "csv", "json", "jsonl", "parquet"])
def test_a_view_can_be_exported(client: httpx.Client, home: Path, format: str) -> None:
    view = client.post("/views", json={"where": "id < 4", "sort": "-id"}).json()["view"]
    data = client.get(f"/views/{view}/export?format={format}").content
    paths = [image["path"] for image in client.get("/images?ids=3,2,1").json()]
    if format == "paths":
        assert data.decode().splitlines() == paths
    elif format == "parquet":
        table = pq.read_table(io.BytesIO(data))
        assert table["path"].to_pylist() == paths
        assert table["id"].to_pylist() == [3, 2, 1]
    elif format == "csv":
        assert [row["path"] for row in csv.DictReader(io.StringIO(data.decode()))] == paths
    else:
        rows = json.loads(data) if format == "json" else [json.loads(line) for line in data.splitlines()]
        assert [row["path"] for row in rows] == paths


@pytest.mark.parametrize(
    "body",
    [
        {"where": "1) union select path from main.images where (1"},
        {"where": "length(randomblob(1000000000)) > 0"},
        {"where": "load_extension('x')"},
        {"where": "no_such_column = 1"},
        {"sort": "password"},
        {"label": 1},
        {"clustering": 1, "label": 99},
        {"tag": "' or 1=1 --\0"},
        {"other": 1},
        {"sort": "distance"},
        [],
    ],
)
def test_a_wrong_view_is_refused_with_the_reason(client: httpx.Client, body: Any) -> None:
    refused = client.post("/views", json=body)
    assert refused.status_code == 400
    assert refused.json()["type"] == "urn:imgindex:UsageError"
    assert refused.json()["detail"]


def test_a_tag_with_a_quote_is_a_tag(client: httpx.Client) -> None:
    client.put("/images/tags", json={"ids": [5], "add": ["it's"]}, headers=ANY)
    assert client.post("/views", json={"tag": "it's"}).json()["total"] == 1
    assert client.post("/views", json={"tag": "' or 1=1 --"}).json()["total"] == 0


def test_a_condition_that_takes_long_ends_after_two_seconds(client: httpx.Client) -> None:
    slow = " ".join(["(select count(*) from images a", *(f", images {name}" for name in "bcdefghijkl")]) + ") > 0"
    began = time.monotonic()
    refused = client.post("/views", json={"where": slow})
    assert refused.status_code == 400
    assert "takes longer than 2 seconds" in refused.json()["detail"]
    assert time.monotonic() - began < 30


# Changes.


def test_a_change_needs_the_etag_of_what_was_seen(client: httpx.Client, home: Path) -> None:
    seen = client.get("/tags").headers["etag"]
    body = {"ids": [1, 2], "add": ["cat"]}
    assert client.put("/images/tags", json=body).status_code == 428
    changed = client.put("/images/tags", json=body, headers={"If-Match": seen})
    assert changed.json() == {"images": 2, "added": {"cat": [1, 2]}, "removed": {}}
    late = client.put("/images/tags", json={"ids": [1], "remove": ["cat"]}, headers={"If-Match": seen})
    assert (late.status_code, late.json()["type"]) == (412, "urn:imgindex:IndexChanged")
    assert changed.headers["etag"] == late.headers["etag"] == client.get("/tags").headers["etag"]
    with ImageIndex.open(home / ".imgindex") as index:  # another process
        index.tag("dog", home / "photos" / "b")
    assert client.get("/tags").headers["etag"] != late.headers["etag"]
    assert client.get("/tags").json() == [{"tag": "dog", "images": 7}, {"tag": "cat", "images": 2}]


def test_while_others_read_the_etag_of_a_change_stays_that_of_the_newest_commit(client: httpx.Client) -> None:
    over = threading.Event()

    def read() -> None:
        with httpx.Client(base_url=client.base_url, headers=AUTHORIZED, timeout=60) as other:
            while not over.is_set():
                other.get("/images?ids=1,2,3")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    seen, statuses = client.get("/tags").headers["etag"], []
    for number in range(60):
        body = {"ids": [1 + number % 13], "add": [f"tag {number}"]}
        changed = client.put("/images/tags", json=body, headers={"If-Match": seen})
        statuses.append(changed.status_code)
        seen = changed.headers["etag"]
    over.set()
    for reader in readers:
        reader.join()
    assert statuses == [200] * 60


def test_what_has_not_changed_is_not_sent_again(client: httpx.Client) -> None:
    first = client.get("/status")
    again = client.get("/status", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    client.put("/images/tags", json={"ids": [1], "add": ["cat"]}, headers=ANY)
    assert client.get("/status", headers={"If-None-Match": first.headers["etag"]}).status_code == 200


def test_a_cluster_is_named_and_the_name_is_removed(client: httpx.Client) -> None:
    named = client.put("/clusterings/1/clusters/0/name", json={"name": "<b>largest</b>"}, headers=ANY)
    assert named.json()["name"] == "<b>largest</b>"
    assert client.get("/clusterings/1").json()["clusters"][0]["name"] == "<b>largest</b>"
    assert client.put("/clusterings/1/clusters/1/name", json={"name": "<b>largest</b>"}, headers=ANY).status_code == 400
    client.put("/clusterings/1/clusters/0/name", json={"name": None}, headers=ANY)
    assert client.get("/clusterings/1").json()["clusters"][0]["name"] is None


def test_a_clustering_is_edited_and_the_edit_is_undone(client: httpx.Client, server: ForkServer, home: Path) -> None:
    first = client.get("/clusterings/1").json()
    seen = client.get("/clusterings/1").headers["etag"]
    ids = client.post("/views", json={"clustering": 1, "label": 0}).json()["view"]
    moved = client.get(f"/views/{ids}/rows?limit=2").json()["ids"]
    body = {"kind": "move", "ids": moved, "label": 1}
    assert client.post("/clusterings/1/edits", json=body).status_code == 428
    done = client.post("/clusterings/1/edits", json=body, headers={"If-Match": seen})
    assert (done.status_code, done.json()["id"]) == (200, 2)
    assert client.post("/clusterings/2/edits", json={"kind": "undo"}, headers={"If-Match": seen}).status_code == 412
    merged = client.post("/clusterings/2/edits", json={"kind": "merge", "labels": [0, 2]}, headers=ANY).json()
    assert merged["k"] == 2
    assert merged["options"] == {"edit": {"of": 2, "kind": "merge", "labels": [0, 2]}}
    split = {"kind": "split", "label": 0, "anchors": {"one": [moved[0]], "other": [moved[1], 9]}}
    parts = client.post("/clusterings/3/edits", json=split, headers=ANY).json()
    assert {"one", "other"} < {cluster["name"] for cluster in parts["clusters"]}
    assert client.post("/clusterings/3/edits", json={"kind": "split", "label": 1, "k": 3}, headers=ANY).json()["k"] == 4
    shown = json.loads(server.run("clusterings", "show", "4", "--json", "--out", "a.csv", folder=home).stdout)
    assert parts == shown
    assert [one["edited_from"] for one in client.get("/clusterings").json()] == [None, 1, 2, 3, 3]
    for id, before in ((5, 3), (4, 3), (3, 2), (2, 1)):
        assert client.post(f"/clusterings/{id}/edits", json={"kind": "undo"}, headers=ANY).json()["id"] == before
    assert client.get("/clusterings/1").json() == first


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"kind": "merge", "labels": [0, 0]}, 400, "cluster 0 is given twice"),
        ({"kind": "merge", "labels": [0, 7]}, 400, "no label 7"),
        ({"kind": "merge"}, 400, "labels"),
        ({"kind": "split", "label": 0, "k": 1}, 400, ">= 2"),
        ({"kind": "split", "label": 0, "k": 99}, 400, "cannot be split into 99"),
        ({"kind": "split", "label": 0, "anchors": {"a": [1], "b": [999]}}, 404, "no image with the id 999"),
        ({"kind": "split", "label": 0, "anchors": {"a": [1], "b": []}}, 400, "the anchor 'b' has no images"),
        ({"kind": "move", "ids": [999], "label": 0}, 404, "no image with the id 999"),
        ({"kind": "undo"}, 400, "was not made by an edit"),
        ({"kind": "rename"}, 400, "rename"),
    ],
    ids=str,
)
def test_a_wrong_edit_is_refused_with_the_reason(client: httpx.Client, body: Any, status: int, detail: str) -> None:
    refused = client.post("/clusterings/1/edits", json=body, headers=ANY)
    assert refused.status_code == status
    assert detail in refused.json()["detail"]
    assert client.post("/clusterings/9/edits", json={"kind": "undo"}, headers=ANY).status_code == 404
    assert [one["id"] for one in client.get("/clusterings").json()] == [1]


def test_while_another_process_writes_a_change_is_refused_and_reading_goes_on(client: httpx.Client, home: Path) -> None:
    with ImageIndex.open(home / ".imgindex") as index, index._store.writing():
        refused = client.put("/images/tags", json={"ids": [1], "add": ["cat"]}, headers=ANY)
        assert (refused.status_code, refused.json()["type"]) == (423, "urn:imgindex:IndexLocked")
        assert str(os.getpid()) in refused.json()["detail"]
        assert client.get("/images/1").status_code == 200


def test_a_read_only_server_refuses_every_change(home: Path) -> None:
    with client_of(home / ".imgindex", read_only=True) as client:
        assert client.get("/server").json()["read_only"] is True
        before = contents(home)
        for endpoint in ENDPOINTS:
            if endpoint.writes:
                path = endpoint.path.replace("{clustering:int}", "1").replace("{label:int}", "0")
                refused = client.request(endpoint.method, path, json={}, headers=ANY)
                assert (refused.status_code, refused.json()["type"]) == (403, "urn:imgindex:ReadOnly")
        assert contents(home) == before


def test_every_endpoint_that_changes_the_index_says_so(client: httpx.Client, home: Path) -> None:
    """No other endpoint changes a file, but for thumbnails and results that may be made again."""
    bodies: dict[str, Any] = {"make_view": {}, "similar": (home / "photos" / "a" / "1.png").read_bytes()}
    before = {name: data for name, data in contents(home).items() if "catalogue.db" not in name}
    parts = {"{view}": "none", "{id:int}": "1", "{clustering:int}": "1", "{other:int}": "1", "{job:int}": "1"}
    for endpoint in ENDPOINTS:
        if endpoint.writes or endpoint.handler == "events":
            continue
        path = endpoint.path
        for part, value in parts.items():
            path = path.replace(part, value)
        path += "?ids=1" if "ids" in endpoint.query.__struct_fields__ else ""
        body = bodies.get(endpoint.handler)
        options = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        assert client.request(endpoint.method, path, **options).status_code < 500, endpoint
    after = {name: data for name, data in contents(home).items() if "catalogue.db" not in name}
    assert {name: after.get(name) for name in before} == before
    derived = (".imgindex/thumbnails/", ".imgindex/search/map-pca")
    assert all(name.startswith(derived) for name in after.keys() - before.keys())


# Lists in parts.


def test_failures_come_in_parts_that_link_to_the_next(client: httpx.Client, home: Path) -> None:
    for number in range(4):
        (home / "photos" / f"bad{number}.jpg").write_bytes(b"no picture")
    with ImageIndex.open(home / ".imgindex") as index:
        index.add(home / "photos")
        every = [failure.path for failure in index.failures()]
    found: list[str] = []
    path = "/api/v1/failures?limit=2"
    while path:
        answer = client.get(at(client, path))
        found += [failure["path"] for failure in answer.json()]
        path = next_part(answer)
    assert found == every
    assert len(found) == 5


def next_part(answer: Any) -> str:
    link = answer.headers.get("link", "")
    assert not link or link.endswith('; rel="next"')
    return link.partition(">")[0].lstrip("<")


def test_groups_come_in_parts_of_one_answer_although_tags_are_changed_meanwhile(home: Path) -> None:
    for number in range(5):
        for copy in ("x", "y"):
            draw(home / "photos" / "c" / f"{number}{copy}.png", 100 + number, (90, 60))
    with ImageIndex.open(home / ".imgindex") as index:
        index.add(home / "photos")
        every = [group.kept.path for group in index.duplicates(exact=True).groups]
    with client_of(home / ".imgindex") as client:
        found: list[str] = []
        path = "/api/v1/duplicates?exact=true&limit=2"
        while path:
            answer = client.get(at(client, path))
            found += [group["keep"] for group in answer.json()["groups"]]
            client.put("/images/tags", json={"ids": [1], "add": [f"t{len(found)}"]}, headers=ANY)
            path = next_part(answer)
        assert found == every
        assert [job["kind"] for job in client.get("/jobs").json()] == ["duplicates"]
        assert client.get("/duplicates?at=77").json()["type"] == "urn:imgindex:AnswerNotFound"


def test_an_outline_says_which_groups_are_decided_and_grading_is_not_repeated_for_tags(home: Path) -> None:
    for number in range(4):
        draw(home / "photos" / "c" / f"{number}.png", 100 + number, (90, 60))
        shutil.copy(home / "photos" / "c" / f"{number}.png", home / "photos" / "c" / f"{number} again.png")
    with ImageIndex.open(home / ".imgindex") as index:
        index.add(home / "photos")
    with client_of(home / ".imgindex") as client:
        groups = client.get("/duplicates").json()["groups"]
        numbers = [group["group"] for group in groups]
        first = client.get("/duplicates/outline").json()
        assert (first["groups"], first["images"], first["decided"]) == (5, 21, [])
        assert first["exact"] == numbers == [1, 2, 3, 4, 5]
        ids = [image["id"] for image in groups[2]["images"]]
        client.put("/images/tags", json={"ids": ids[:1], "add": ["keep"]}, headers=ANY)
        assert client.get("/duplicates/outline").json() == first
        client.put("/images/tags", json={"ids": ids[1:], "add": ["spare"]}, headers=ANY)
        assert client.get(f"/duplicates/outline?at={first['at']}").json() == first | {"decided": [3]}
        assert client.get("/duplicates").json()["groups"] == groups
        assert [job["kind"] for job in client.get("/jobs").json()] == ["duplicates"]
        with ImageIndex.open(home / ".imgindex") as index:
            index.remove(home / "photos" / "c" / "0 again.png")
        assert client.get("/duplicates/outline").json()["groups"] == 4
        assert len(client.get("/jobs").json()) == 2


# Pictures.


def test_thumbnails_come_in_one_pack_with_a_reason_where_there_is_none(client: httpx.Client, home: Path) -> None:
    gone = Path(client.get("/images/2").json()["path"])
    gone.unlink()
    answer = client.get("/thumbnails?ids=1,2,99,3")
    assert answer.headers["content-type"] == "application/vnd.imgindex.thumbnails"
    parts = unpacked(answer.content)
    assert sorted(parts) == [0, 1, 2, 3]
    for place in (0, 3):
        kind, data = parts[place]
        assert kind == 0
        assert max(Image.open(io.BytesIO(data)).size) == 192
    assert parts[1][0] == 1
    assert b"No such file" in parts[1][1]
    assert b"does not have it" in parts[2][1]
    assert unpacked(client.get("/thumbnails?ids=3").content)[0] == parts[3]


def unpacked(pack: bytes) -> dict[int, tuple[int, bytes]]:
    parts, at = {}, 0
    while at < len(pack):
        place, kind, length = struct.unpack_from("<III", pack, at)
        parts[place] = (kind, pack[at + 12 : at + 12 + length])
        at += 12 + length
    return parts


@pytest.mark.parametrize(("side", "expected"), [(32, 32), (500, 65), (2048, 65)])
def test_a_large_picture_is_not_larger_than_the_image(client: httpx.Client, side: int, expected: int) -> None:
    id = next(i["id"] for i in client.get("/images?ids=1,2,3").json() if i["path"].endswith("a/1.png"))
    answer = client.get(f"/images/{id}/picture?side={side}")
    assert answer.headers["content-type"] == "image/webp"
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, max(picture.size)) == ("WEBP", expected)


def test_a_link_to_a_secret_is_not_a_picture_and_its_bytes_are_in_no_answer(client: httpx.Client, home: Path) -> None:
    secret = b"-----BEGIN OPENSSH PRIVATE KEY----- sesame"
    (home / "id_rsa").write_bytes(secret)
    path = Path(client.get("/images/1").json()["path"])
    path.unlink()
    path.symlink_to(home / "id_rsa")
    answers = [client.get(f"/images/1/{what}") for what in ("picture", "similar")] + [client.get("/thumbnails?ids=1")]
    assert answers[0].status_code == 400
    assert all(b"sesame" not in answer.content and b"BEGIN" not in answer.content for answer in answers)


# Jobs.


def ended(client: httpx.Client, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"].endswith(f"/jobs/{answer.json()['id']}")
    for _ in range(600):
        job = client.get(f"/jobs/{answer.json()['id']}").json()
        if job["state"] not in ("queued", "running"):
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def test_a_job_adds_what_is_new_in_known_folders(client: httpx.Client, home: Path) -> None:
    draw(home / "photos" / "new.png", 77)
    before = client.get("/status").headers["etag"]
    job = ended(client, client.post("/jobs", json={"kind": "add"}, headers={"If-Match": before}))
    assert (job["state"], job["problem"]) == ("done", None)
    assert (job["result"]["found"], job["result"]["added"]) == (15, 1)
    assert client.get("/status").json()["images"] == 14
    below = {"kind": "add", "paths": [str(home / "photos" / "a")]}
    assert ended(client, client.post("/jobs", json=below, headers=ANY))["result"]["found"] == 6


@pytest.mark.parametrize(
    "path", ["/etc", "photos/../../x", "s3://bucket/x", "", "https://example.org/a.jpg", "photos2"]
)
def test_a_job_adds_nothing_outside_known_folders(client: httpx.Client, home: Path, path: str) -> None:
    given = path if "://" in path or path.startswith("/") or not path else str(home / path)
    (home / "photos2").mkdir()
    refused = client.post("/jobs", json={"kind": "add", "paths": [given]}, headers=ANY)
    assert refused.status_code == 400
    assert client.get("/jobs").json() == []


def test_a_job_clusters_and_its_result_is_the_clustering(client: httpx.Client) -> None:
    job = ended(client, client.post("/jobs", json={"kind": "cluster", "k": 2, "seed": 1}, headers=ANY))
    assert job["result"] == client.get("/clusterings/2").json()
    failed = ended(client, client.post("/jobs", json={"kind": "cluster", "k": 500}, headers=ANY))
    assert (failed["state"], failed["result"]) == ("failed", None)
    assert failed["problem"]["type"] == "urn:imgindex:TooFewDistinctVectors"


def test_a_map_is_made_by_a_job_and_read_as_numbers(client: httpx.Client, home: Path) -> None:
    assert client.get("/map?method=tsne").json()["type"] == "urn:imgindex:MapNotFound"
    ended(client, client.post("/jobs", json={"kind": "map", "method": "tsne"}, headers=ANY))
    assert client.get("/map?method=tsne").status_code == 200
    # By principal components it is made at once.
    data = client.get("/map?clustering=1").content
    n = int.from_bytes(data[:4], "little")
    assert n == 13
    made = [one["method"] for one in client.get("/maps").json() if one["is_made"]]
    assert made == ["pca", "tsne"]
    ids = np.frombuffer(data, "<u4", n, 4)
    x, y = (np.frombuffer(data, "<u2", n, 4 + 4 * n + 2 * n * axis).astype(float) for axis in (0, 1))
    labels = np.frombuffer(data, "<i2", n, 4 + 8 * n)
    groups = json.loads(data[4 + 10 * n :])
    assert [(group["name"], group["images"]) for group in groups] == [
        (f"cluster {label}", size) for label, size in enumerate(client.get("/clusterings/1").json()["sizes"])
    ]
    with ImageIndex.open(home / ".imgindex") as index:
        found, members = index.map(), index.clusterings[1]
    assert ids.tolist() == found.ids.tolist()
    assert labels.tolist() == members.labels.tolist()
    extent = (found.xy.max(axis=0) - found.xy.min(axis=0)).max()
    for one, drawn in zip(found.xy.T, (x, y), strict=True):
        np.testing.assert_allclose((drawn - drawn.mean()) / 65535, (one - one.mean()) / extent, atol=1e-3)
    assert max(np.ptp(x), np.ptp(y)) == 65535
    assert client.get("/map?clustering=9").status_code == 404


def test_a_map_is_kept_for_the_next_run_of_the_server(home: Path) -> None:
    for expected in ([], ["pca"]):
        with client_of(home / ".imgindex") as client:
            assert [one["method"] for one in client.get("/maps").json() if one["is_made"]] == expected
            assert client.get("/map").status_code == 200
            client.put("/images/tags", json={"ids": [1], "add": ["cat"]}, headers=ANY)
            assert [one["method"] for one in client.get("/maps").json() if one["is_made"]] == ["pca"]
    with ImageIndex.open(home / ".imgindex") as index:
        index.remove(home / "photos" / "a" / "4.png")
    with client_of(home / ".imgindex", read_only=True) as client:
        assert int.from_bytes(client.get("/map").content[:4], "little") == 12


def test_a_view_may_be_of_some_ids(client: httpx.Client) -> None:
    view = client.post("/views", json={"ids": [9, 3, 5, 999], "where": "id > 3", "sort": "-id"}).json()
    assert client.get(f"/views/{view['view']}/rows").json()["ids"] == [9, 5]
    assert client.post("/views", json={"ids": []}).json()["total"] == 0


# Names that are not text.


def test_a_name_that_is_not_utf8_is_answered_as_on_the_command_line(server: ForkServer, home: Path) -> None:
    name = os.fsencode(home / "photos") + b"/caf\xe9 \"<b>'.png"
    os.rename(home / "photos" / "a" / "5.png", name)
    server.run("add", "photos", folder=home)
    with client_of(home / ".imgindex") as client:
        view = client.post("/views", json={"where": "name like 'caf%'"}).json()
        assert view["total"] == 1
        rows = client.get(f"/views/{view['view']}/rows")
        assert os.fsencode(rows.json()["images"][0]["path"]) == name
        data = client.get(f"/views/{view['view']}/export").content
        assert data == name + b"\n"


# What does not exist.


@pytest.mark.parametrize("path", ["/images/0", "/images/99", "/images/99/similar", "/images/99/picture"])
def test_an_image_that_does_not_exist_is_404(client: httpx.Client, path: str) -> None:
    assert (client.get(path).status_code, client.get(path).json()["type"]) == (404, "urn:imgindex:PathNotFound")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/images/x",
        "/images/-1",
        "/images/1/",
        "/clusterings/7",
        "/clusterings/1/diff/9",
        "/jobs/7",
        "/views",
    ],
)
def test_what_does_not_exist_is_a_problem_document(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 405)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "//evil.example/..", "/api/v1/status/", "/assets/../app.js", "/assets/app.js/"],
)
def test_no_path_is_redirected(client: httpx.Client, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.base_url.port)  # sends the path as it is
    connection.request("GET", path, headers=AUTHORIZED)
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("location")) == (404, None)
    connection.close()


@pytest.mark.parametrize("query", ["n=0", "n=1001", "n=x", "n=1&n=2", "m=1", "rerank=perhaps"])
def test_a_wrong_query_is_refused(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/images/1/similar?{query}")
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:imgindex:UsageError")
