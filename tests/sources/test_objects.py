from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from add_checks import counts
from forking import Run
from object_store import KEY, SECRET, ObjectStore, Relay, running
from pictures import draw
from small_recipe import SMALL

from imgindex import ImageIndex
from imgindex.errors import ExtraMissing, PathNotFound, SourceUnavailable, UnreadableImage
from imgindex.sources import objects as module
from imgindex.sources.objects import ObjectSource
from imgindex.sources.registry import find_files
from imgindex.sources.selection import SkippedFiles
from imgindex.types import Failure, FoundFile, UnnamedFile


@pytest.fixture
def source() -> ObjectSource:
    return ObjectSource()


def found_paths(*roots: str, **options: object) -> list[str]:
    return [one.path for one in find_files(roots, **options)]  # type: ignore[arg-type]


def vectors(index: ImageIndex) -> dict[str, bytes]:
    return {Path(path).name: vector.tobytes() for path, vector in zip(index.paths(), index.vectors(), strict=True)}


# Finding.


def test_objects_are_found_in_a_stable_order_with_their_etag_as_version(
    bucket: str, folder: Path, object_store: ObjectStore
) -> None:
    found = list(find_files([f"s3://{bucket}"]))
    assert [one.path for one in found] == sorted(
        f"s3://{bucket}/{p.relative_to(folder)}" for p in folder.rglob("*.png")
    )
    for one in found:
        data = (folder / one.path.removeprefix(f"s3://{bucket}/")).read_bytes()
        assert isinstance(one, FoundFile)
        assert (one.size, one.version) == (len(data), hashlib.md5(data).hexdigest())
        assert one.mtime_ns % 10**9 == 0
        assert abs(one.mtime_ns / 1e9 - time.time()) < 300


def test_a_prefix_is_a_folder_and_not_the_beginning_of_a_name(bucket: str, object_store: ObjectStore) -> None:
    object_store.put(bucket, "ab/1.png", b"1")
    assert found_paths(f"s3://{bucket}/a") == [f"s3://{bucket}/a/{n}.png" for n in range(6)]


def test_what_is_passed_over_in_folders_is_passed_over_in_buckets(bucket: str, object_store: ObjectStore) -> None:
    for key in (".hidden.jpg", "a/notes.txt", "__MACOSX/1.png", "other.imgindex/1.png", "b/left/out.png", "c/nameless"):
        object_store.put(bucket, key, b"x")
    skipped = SkippedFiles()
    found = list(find_files([f"s3://{bucket}"], exclude=["left", "b/1*"], skipped=skipped))
    assert len(found) == 11
    (nameless,) = [one for one in found if isinstance(one, UnnamedFile)]
    assert nameless.path == f"s3://{bucket}/c/nameless"
    assert (skipped.hidden, skipped.excluded, dict(skipped.by_ending)) == (1, 3, {".txt": 1})


def test_an_address_of_one_object_is_found_whatever_its_name_is(bucket: str, object_store: ObjectStore) -> None:
    object_store.put(bucket, ".hidden.jpg", b"x")
    roots = [f"s3://{bucket}/.hidden.jpg", f"s3://{bucket}/b/6.png", f"s3://{bucket}/none.png"]
    hidden, picture, none = find_files(roots)
    assert [hidden.path, picture.path, none.path] == roots
    assert isinstance(none, Failure)
    assert none.reason == "the store has no such object"


def test_an_object_is_found_once_however_many_addresses_lead_to_it(bucket: str) -> None:
    found = found_paths(f"s3://{bucket}/a/1.png", f"s3://{bucket}", f"s3://{bucket}/a", f"s3://{bucket}/a/1.png")
    assert len(found) == len(set(found)) == 12


@pytest.mark.parametrize(
    "name", ["a b.png", "per%20cent.png", "h#q?x=1.png", "ünï.png", "e[1]*.png", "~x.png", "+.png"]
)
def test_names_stay_as_they_are(bucket: str, object_store: ObjectStore, source: ObjectSource, name: str) -> None:
    object_store.put(bucket, f"n/{name}", b"12345")
    assert found_paths(f"s3://{bucket}/n") == [f"s3://{bucket}/n/{name}"]
    assert source.read(f"s3://{bucket}/n/{name}").data == b"12345"


@pytest.mark.parametrize("name", ["a/../b.png", "a//b.png", "./b.png", "new\nline.png"])
def test_a_name_that_cannot_be_read_is_a_failure_of_that_image(bucket: str, name: str, source: ObjectSource) -> None:
    (found,) = find_files([f"s3://{bucket}/{name}"])
    assert isinstance(found, Failure)
    with pytest.raises(UnreadableImage, match="cannot be read") as raised:
        source.read(f"s3://{bucket}/{name}")
    assert not isinstance(raised.value, SourceUnavailable)


def test_a_root_must_be_there(bucket: str, source: ObjectSource) -> None:
    source.check(f"s3://{bucket}")
    source.check(f"s3://{bucket}/a")
    with pytest.raises(FileNotFoundError):
        source.check(f"s3://{bucket}/nothing")
    with pytest.raises(SourceUnavailable, match=r"^s3://no-such-bucket does not exist$"):
        source.check("s3://no-such-bucket")


# Reading.


def test_one_request_gives_the_bytes_and_their_version(bucket: str, relay: Relay, folder: Path) -> None:
    source, path = ObjectSource(), f"s3://{bucket}/a/3.png"
    relay.requests.clear()
    content = source.read(path)
    assert relay.requests == [f"GET /{bucket}/a/3.png"]
    assert content.data == (folder / "a" / "3.png").read_bytes()
    assert content.sha256 == hashlib.sha256(content.data).digest()
    assert content.file_at(path) == source.look(path) == next(find_files([path]))
    assert source.hash(path).sha256 == content.sha256
    assert source.read_head(path) == content.data[:64]


def test_an_object_that_is_too_large_or_empty_is_a_failure(
    bucket: str, source: ObjectSource, object_store: ObjectStore
) -> None:
    object_store.put(bucket, "empty.png", b"")
    with pytest.raises(UnreadableImage, match="more than the limit"):
        source.read(f"s3://{bucket}/a/1.png", max_bytes=10)
    with pytest.raises(UnreadableImage, match="empty"):
        source.read(f"s3://{bucket}/empty.png")
    with pytest.raises(UnreadableImage, match="no such object") as raised:
        source.read(f"s3://{bucket}/none.png")
    assert not isinstance(raised.value, SourceUnavailable)


@pytest.mark.parametrize("few", [0, 8])
def test_only_what_the_store_lacks_is_gone(
    bucket: str, source: ObjectSource, object_store: ObjectStore, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW", few)
    object_store.delete(bucket, "a/3.png")
    paths = [f"s3://{bucket}/{key}" for key in ("a/3.png", "a/1.png", "b/7.png", "never.png")]
    assert sorted(source.gone(paths)) == [f"s3://{bucket}/a/3.png", f"s3://{bucket}/never.png"]


def test_nothing_is_gone_from_a_store_that_does_not_answer(bucket: str, source: ObjectSource, relay: Relay) -> None:
    relay.close()
    assert list(source.gone([f"s3://{bucket}/a/3.png"])) == []
    assert source.look(f"s3://{bucket}/a/3.png") is None
    with pytest.raises(SourceUnavailable):
        list(source.gone([f"s3://{bucket}/{number}.png" for number in range(100)]))


# Adding.


def test_vectors_are_those_of_files_to_the_bit(index: ImageIndex, bucket: str, folder: Path) -> None:
    index.add(folder)
    by_file = vectors(index)
    index.remove(folder)
    assert counts(index.add(f"s3://{bucket}")) == {"added": 12}
    assert vectors(index) == by_file
    assert index.paths()[0] == f"s3://{bucket}/a/0.png"


def test_a_second_add_reads_no_object(index: ImageIndex, bucket: str, relay: Relay) -> None:
    index.add(f"s3://{bucket}")
    relay.requests.clear()
    assert counts(index.add(f"s3://{bucket}")) == {"unchanged": 12}
    assert relay.seen(f"GET /{bucket}/") == []
    assert relay.seen("GET ") != []


def test_an_object_that_was_written_again_is_embedded_again_and_keeps_its_id(
    index: ImageIndex, bucket: str, object_store: ObjectStore, folder: Path, relay: Relay
) -> None:
    index.add(f"s3://{bucket}")
    before = {image.path: image.id for image in index.images()}
    data = draw(folder / "new.png", 77).read_bytes()
    object_store.put(bucket, "a/3.png", data)
    relay.requests.clear()
    assert counts(index.add(f"s3://{bucket}")) == {"updated": 1, "unchanged": 11}
    assert relay.seen(f"GET /{bucket}/") == [f"GET /{bucket}/a/3.png"]
    assert {image.path: image.id for image in index.images()} == before


def test_an_object_that_was_deleted_is_missing_until_it_is_back(
    index: ImageIndex, bucket: str, object_store: ObjectStore, folder: Path
) -> None:
    index.add(f"s3://{bucket}")
    object_store.delete(bucket, "a/3.png")
    assert counts(index.add(f"s3://{bucket}")) == {"removed": 1, "unchanged": 11}
    object_store.put(bucket, "a/3.png", (folder / "a" / "3.png").read_bytes())
    assert counts(index.add(f"s3://{bucket}"))["unchanged"] == 11
    assert len(index) == 12


def test_an_object_under_another_name_keeps_its_vector(
    index: ImageIndex, bucket: str, object_store: ObjectStore, folder: Path
) -> None:
    index.add(f"s3://{bucket}")
    object_store.put(bucket, "moved/3.png", (folder / "a" / "3.png").read_bytes())
    object_store.delete(bucket, "a/3.png")
    assert counts(index.add(f"s3://{bucket}")) == {"renamed": 1, "unchanged": 11}


def test_damage_and_absence_of_one_image_are_failures_of_it(
    index: ImageIndex, bucket: str, object_store: ObjectStore
) -> None:
    object_store.put(bucket, "a/broken.jpg", b"not a picture")
    report = index.add([f"s3://{bucket}/a", f"s3://{bucket}/gone.jpg"])
    assert counts(report) == {"added": 6, "failed": 2}
    reasons = {failure.path: failure.stage for failure in index.failures()}
    assert reasons == {f"s3://{bucket}/a/broken.jpg": "decode", f"s3://{bucket}/gone.jpg": "find"}
    assert counts(index.add([f"s3://{bucket}/a", f"s3://{bucket}/gone.jpg"])) == {"unchanged": 6, "failed": 2}


def test_a_file_without_an_ending_is_recognised_once(
    index: ImageIndex, bucket: str, object_store: ObjectStore, folder: Path, relay: Relay
) -> None:
    object_store.put(bucket, "c/picture", draw(folder / "new.png", 77).read_bytes())
    object_store.put(bucket, "c/text", b"only text")
    assert counts(index.add(f"s3://{bucket}")) == {"added": 13}
    relay.requests.clear()
    assert counts(index.add(f"s3://{bucket}")) == {"unchanged": 13}
    assert relay.seen(f"GET /{bucket}/") == []


def test_the_same_bytes_here_and_there_are_embedded_once(index: ImageIndex, bucket: str, folder: Path) -> None:
    index.add(folder)
    assert counts(index.add([f"s3://{bucket}", folder])) == {"reused": 12, "unchanged": 12}


# A source that is away.


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """More pictures than are read ahead."""
    for number in range(240):
        draw(tmp_path / "many" / f"{number:03}.png", (number % 256, number // 256, 7))
    return tmp_path / "many"


@pytest.fixture
def own_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_credentials: None, object_store: ObjectStore
) -> Iterator[ObjectStore]:
    """A server that a test may stop; where there is one for all tests, there can be another one."""
    (tmp_path / "store").mkdir()
    with running(tmp_path / "store") as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        yield store


def test_a_server_that_stops_in_the_middle_of_a_run_ends_it_and_the_next_run_completes(
    index: ImageIndex, own_store: ObjectStore, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_store.put_folder("many", many)
    monkeypatch.setattr("imgindex.ingest.store_recorder.COMMIT_SECONDS", 0.0)
    stopped: list[float] = []

    def stop(progress: object) -> None:
        if len(index) >= 8 and not stopped:
            own_store.stop()
            stopped.append(time.monotonic())

    with pytest.raises(SourceUnavailable, match=r"^s3://many (does not answer|answers with an error)"):
        index.add("s3://many", on_progress=stop)
    assert time.monotonic() - stopped[0] < 30
    done = len(index)
    assert 8 <= done < 240
    assert list(index.failures()) == []
    own_store.start()
    assert counts(index.add("s3://many")) == {"added": 240 - done, "unchanged": done}
    assert index.verify(full=True).ok


def test_a_listing_that_is_interrupted_removes_nothing(
    index: ImageIndex, object_store: ObjectStore, relay: Relay, many: Path
) -> None:
    bucket = f"b{uuid.uuid4().hex[:12]}"
    object_store.put_folder(bucket, many)
    index.add(f"s3://{bucket}")
    for number in range(100):
        object_store.delete(bucket, f"{number:03}.png")
    # The check of the root is answered, the listing is not.
    relay.cut_after(2)
    with pytest.raises(SourceUnavailable, match="does not answer"):
        index.add(f"s3://{bucket}")
    assert (len(index), list(index.failures())) == (240, [])


def test_a_store_that_does_not_answer_makes_no_index(run: Run, tmp_path: Path, object_store: ObjectStore) -> None:
    environment = object_store.environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    done = run("add", "s3://bucket", *SMALL, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("imgindex: error: s3://bucket does not answer; check AWS_ENDPOINT_URL")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / ".imgindex").exists()


@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_rejected_credentials_end_the_run_and_are_not_shown(
    index: ImageIndex, bucket: str, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    index.add(f"s3://{bucket}")
    monkeypatch.setenv(wrong, "wrong-and-secret")
    with pytest.raises(SourceUnavailable, match=f"^s3://{bucket} rejects the credentials") as raised:
        index.add(f"s3://{bucket}")
    assert (len(index), list(index.failures())) == (12, [])
    shown = f"{raised.value} {raised.value.hint} {raised.value.__cause__}"
    assert not re.search(f"wrong-and-secret|{KEY}|{SECRET}", shown)
    with pytest.raises(SourceUnavailable, match="rejects the credentials"):
        ObjectSource().read(f"s3://{bucket}/a/1.png")


def test_nothing_of_the_credentials_is_stored(index: ImageIndex, bucket: str, tmp_path: Path) -> None:
    index.add(f"s3://{bucket}")
    stored = b"".join(path.read_bytes() for path in (tmp_path / "pictures.imgindex").rglob("*") if path.is_file())
    assert bucket.encode() in stored
    assert KEY.encode() not in stored
    assert SECRET.encode() not in stored


# Without credentials.


def test_a_public_bucket_is_read_without_credentials(
    object_store: ObjectStore, no_credentials: None, monkeypatch: pytest.MonkeyPatch, source: ObjectSource, bucket: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert source.read("s3://public/started").data == b"started"
    with pytest.raises(SourceUnavailable, match=f"^s3://{bucket} cannot be read without credentials") as raised:
        source.read(f"s3://{bucket}/a/1.png")
    assert raised.value.hint == "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


# Other stores, and settings that are wrong.


@pytest.mark.parametrize(
    ("address", "variables", "message"),
    [
        ("s3://b", {"AWS_ENDPOINT_URL": "nonsense"}, "AWS_ENDPOINT_URL is not the address of a server"),
        ("s3://b", {"AWS_ENDPOINT_URL": "http://me:sesame@127.0.0.1:9"}, "AWS_ENDPOINT_URL is not the address"),
        ("s3://b", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x"}, "s3://b "),
        ("s3://b", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_S3_EXPRESS": "maybe"}, "s3://b "),
        ("gs://b", {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"secret": "sesame"}'}, "with these settings"),
        ("gs://b", {"GOOGLE_APPLICATION_CREDENTIALS": "/sesame.json"}, "with these settings"),
        ("gs://b", {"GOOGLE_BASE_URL": "http://127.0.0.1:9"}, "gs://b does not answer"),
        ("az://c", {}, "with these settings"),
        ("az://c", {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "sesame!"}, "with these settings"),
        (
            "az://c",
            {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:9"},
            "az://c does not answer",
        ),
    ],
)
def test_settings_that_are_wrong_are_one_line_and_show_no_secret(
    address: str,
    variables: dict[str, str],
    message: str,
    no_credentials: None,
    monkeypatch: pytest.MonkeyPatch,
    source: ObjectSource,
) -> None:
    pytest.importorskip("obstore")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceUnavailable, match=message) as raised:
        source.check(address)
    shown = f"{raised.value}; {raised.value.hint}"
    assert "sesame" not in shown
    assert "\n" not in shown


# Without obstore.


def test_without_obstore_one_line_names_what_to_install(
    index: ImageIndex, monkeypatch: pytest.MonkeyPatch, no_credentials: None
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    monkeypatch.setitem(__import__("sys").modules, "obstore.exceptions", None)
    monkeypatch.setattr("imgindex.sources.registry.objects", ObjectSource)
    with pytest.raises(ExtraMissing, match=r"^s3://bucket cannot be read: obstore is not installed$") as raised:
        index.add("s3://bucket/photos")
    assert raised.value.hint == "install it: pip install obstore"


# Folders by file://.


def test_a_folder_can_be_named_by_file(index: ImageIndex, folder: Path) -> None:
    pytest.importorskip("obstore")
    assert counts(index.add(f"file://{folder}")) == {"added": 12}
    assert counts(index.add(f"file://{folder}")) == {"unchanged": 12}
    (folder / "a" / "1.png").unlink()
    draw(folder / "a" / "2.png", 99, (40, 40))
    assert counts(index.add(f"file://{folder}")) == {"updated": 1, "removed": 1, "unchanged": 10}
    with pytest.raises(PathNotFound, match="no such object"):
        index.add(f"file://{folder}/nothing")


def test_vectors_by_file_are_those_of_paths(index: ImageIndex, folder: Path) -> None:
    pytest.importorskip("obstore")
    index.add(f"file://{folder}")
    there = vectors(index)
    index.remove(f"file://{folder}")
    index.add(folder)
    assert vectors(index) == there
    assert np.isfinite(index.vectors()).all()
