"""Every command on images in an object store, as a user calls it, and reading without credentials."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from add_checks import counts
from collections_of import indexed
from forking import Run
from grid_mean import GridMean
from object_store import KEY, ObjectStore, Relay
from page_files import page_data
from pictures import draw
from small_recipe import SMALL
from textures import textured

from imgindex import ImageIndex
from imgindex.errors import SourceUnavailable, UsageError
from imgindex.export.folders import link_folders
from imgindex.results import LabelFormat
from imgindex.sources.registry import objects


@pytest.fixture
def added(index: ImageIndex, bucket: str) -> ImageIndex:
    index.add(f"s3://{bucket}")
    return index


@pytest.fixture(autouse=True)
def no_anonymous_buckets() -> Iterator[None]:
    yield
    objects().read_anonymously(objects().anonymous, False)


# Every method.


def test_an_object_is_a_query_whether_the_index_has_it_or_not(
    added: ImageIndex, bucket: str, encoder: GridMean
) -> None:
    image = f"s3://{bucket}/a/3.png"
    (match, *_) = added.similar(image, include_self=True)
    assert (match.path, match.distance) == (image, 0)
    assert image not in [match.path for match in added.similar(image)]
    added.remove(image)
    embedded = encoder.embedded
    (match, *_) = added.similar(image)
    assert match.path != image
    assert encoder.embedded == embedded + 1


def test_an_image_of_the_index_is_a_query_without_its_server(added: ImageIndex, bucket: str, relay: Relay) -> None:
    before = added.similar(f"s3://{bucket}/a/3.png")
    relay.close()
    assert added.similar(f"s3://{bucket}/a/3.png") == before


def test_a_prefix_is_no_query(added: ImageIndex, bucket: str) -> None:
    (answer,) = added.answers(f"s3://{bucket}/a")
    assert answer.failure is not None
    assert "a folder or an archive" in answer.failure.reason


def test_conditions_tags_clusters_and_removal_name_objects(added: ImageIndex, bucket: str, tmp_path: Path) -> None:
    assert [image.id for image in added.images(where=f"path like 's3://{bucket}/a/%'")] == [1, 2, 3, 4, 5, 6]
    assert [image.id for image in added.images(where=f"folder = 's3://{bucket}/b' and extension = 'png'")] == [
        *range(7, 13)
    ]
    assert added.tag("first", [f"s3://{bucket}/a"]).images == 6
    clustering = added.cluster(3)
    like = tmp_path / "sample.csv"
    stems = [f"{number}" for number in range(12)]
    for kind, ids in {"stem": stems, "name": [f"{stem}.png" for stem in stems], "path": added.paths()}.items():
        like.write_text("ImageID,label\n" + "".join(f"{id},0\n" for id in ids))
        added.write_labels(
            clustering, tmp_path / "out.csv", LabelFormat(like=like.read_text(), id=kind), overwrite=True
        )
        lines = (tmp_path / "out.csv").read_text().splitlines()
        assert [line.rpartition(",")[0] for line in lines[1:]] == ids
    assert len(added.remove(f"s3://{bucket}/a")) == 6
    assert len(added.remove(f"s3://{bucket}")) == 6


def test_only_copies_are_made_of_objects(added: ImageIndex, bucket: str, folder: Path, tmp_path: Path) -> None:
    group = {"some": [f"s3://{bucket}/a/3.png", f"s3://{bucket}/b/7.png"]}
    with pytest.raises(UsageError, match="is in an object store, where no link can lead to it") as raised:
        link_folders(tmp_path / "out", group)
    assert "`copy=True`" in raised.value.hint
    link_folders(tmp_path / "out", group, copy=True)
    assert (tmp_path / "out/some/3.png").read_bytes() == (folder / "a/3.png").read_bytes()


def test_pages_sheets_and_thumbnails_show_objects(added: ImageIndex, bucket: str, tmp_path: Path) -> None:
    page = added.gallery(list(added.each_answer([f"s3://{bucket}/a/3.png"])))
    page.write_html(tmp_path / "page.html")
    data = page_data(tmp_path / "page.html")
    assert sum(bool(picture) for picture, _, _ in data["pictures"]) >= 11
    assert {item[-1] for item in data["items"]} == {""}
    assert len(page.write_sheet(tmp_path / "sheet.png")) == 1
    (thumbnail,) = added.thumbnails([4])
    assert (thumbnail.path, thumbnail.reason) == (f"s3://{bucket}/a/3.png", "")


def test_lookup_knows_objects_and_looks_into_buckets(added: ImageIndex, bucket: str, folder: Path) -> None:
    draw(folder / "new.png", 55)
    assert [(Path(one.path).name, one.how) for one in added.lookup([folder / "a/3.png", folder / "new.png"])] == [
        ("3.png", "same"),
        ("new.png", "new"),
    ]
    assert {one.how for one in added.lookup(f"s3://{bucket}/a")} == {"same"}


def test_a_server_that_is_away_ends_a_lookup(added: ImageIndex, bucket: str, relay: Relay, tmp_path: Path) -> None:
    relay.cut_after(3)
    with pytest.raises(SourceUnavailable):
        added.lookup(f"s3://{bucket}")


def test_copies_and_leaks_are_found_between_stores_and_folders(
    object_store: ObjectStore, relay: Relay, tmp_path: Path
) -> None:
    bucket = f"b{uuid.uuid4().hex[:12]}"
    (tmp_path / "photos").mkdir()
    for number in range(3):
        textured(number).save(tmp_path / "photos" / f"{number}.png")
    object_store.put_folder(bucket, tmp_path / "photos")
    (tmp_path / "photos" / "2.png").unlink()
    with indexed(tmp_path, tmp_path / "photos", f"s3://{bucket}") as index:  # type: ignore[arg-type]
        found = index.duplicates()
        assert {len(group.others) for group in found.groups} == {1}
        # The file of this machine is kept, and an object is never moved.
        assert [Path(group.kept.path).parent for group in found.groups] == [tmp_path / "photos"] * 2
        assert {one.protected for group in found.groups for one in group.others} == {
            "it is in an object store, from where no image can be moved"
        }
        assert len(index.leak(f"s3://{bucket}", tmp_path / "photos")) == 2


def lose_a_vector(index: ImageIndex) -> None:
    index.close()
    segment = Path(index.path) / "segments/000001.vec"
    data = bytearray(segment.read_bytes())
    data[-10] ^= 1
    segment.write_bytes(data)


def test_lost_vectors_are_made_again_from_objects(added: ImageIndex, encoder: GridMean) -> None:
    before = added.vectors().copy()
    lose_a_vector(added)
    assert ImageIndex.repair(added.path, encoder=encoder).embedded == 1
    with ImageIndex.open(added.path) as index:
        assert (index.vectors() == before).all()


def test_nothing_is_dropped_because_a_server_is_away(added: ImageIndex, encoder: GridMean, relay: Relay) -> None:
    lose_a_vector(added)
    relay.close()
    with pytest.raises(SourceUnavailable):
        ImageIndex.repair(added.path, encoder=encoder)
    with ImageIndex.open(added.path) as index:
        assert len(index) == 12


# The command line.


def test_the_commands_take_addresses(run: Run, bucket: str, tmp_path: Path, relay: Relay) -> None:
    environment = {"AWS_ENDPOINT_URL": relay.endpoint}
    done = run("add", f"s3://{bucket}/a", *SMALL, "--json", env=environment)
    assert (done.returncode, json.loads(done.stdout)["added"]) == (0, 6)
    (tmp_path / "list.txt").write_text("".join(f"s3://{bucket}/b/{number}.png\n" for number in range(6, 9)))
    done = run("add", "--from", "list.txt", "--json", env=environment)
    assert (done.returncode, json.loads(done.stdout)["added"]) == (0, 3)
    done = run("add", "-", "--json", stdin=None, input=f"s3://{bucket}/b/9.png\n", env=environment)
    assert (done.returncode, json.loads(done.stdout)["added"]) == (0, 1)
    done = run("similar", f"s3://{bucket}/a/1.png", "-n", "2", "--format", "paths", env=environment)
    assert (done.returncode, done.stdout.count(f"s3://{bucket}/")) == (0, 2)
    done = run("cluster", "-k", "2", "--link-to", "links", env=environment)
    assert done.returncode == 2
    assert "--copy-to" in done.stderr
    done = run("cluster", "-k", "2", "--copy-to", "copies", env=environment)
    assert (done.returncode, len(list((tmp_path / "copies").rglob("*.png")))) == (0, 10), done.stderr
    done = run("remove", f"s3://{bucket}", "--json", env=environment)
    assert done.returncode == 0


def test_add_needs_something_to_add(run: Run) -> None:
    done = run("add", *SMALL)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no images are named; name files and folders, or - for paths from stdin, or --from FILE" in done.stderr


def test_an_index_cannot_lie_at_an_address(run: Run, folder: Path) -> None:
    done = run("add", folder, "--index", "s3://bucket/it.imgindex")
    assert done.returncode == 2
    assert "s3://bucket/it.imgindex is an address: only images can be there" in done.stderr


# Without credentials.


@pytest.fixture
def public(object_store: ObjectStore, folder: Path, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> str:
    """Pictures in a bucket that everybody may read, and credentials that are wrong."""
    prefix = uuid.uuid4().hex[:12]
    for path in sorted((folder / "a").iterdir()):
        object_store.put("public", f"{prefix}/{path.name}", path.read_bytes())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    return f"s3://public/{prefix}"


def test_a_bucket_is_read_anonymously_from_then_on(index: ImageIndex, public: str) -> None:
    with pytest.raises(SourceUnavailable, match="rejects the credentials") as raised:
        index.add(public)
    assert "`anonymous=True` uses none" in raised.value.hint
    assert KEY not in f"{raised.value}{raised.value.hint}"
    assert counts(index.add(public, anonymous=True)) == {"added": 6}
    index.close()
    objects().read_anonymously(["s3://public"], False)
    # The index remembers it, for everything that reads again.
    with ImageIndex.open(index.path, encoder=GridMean()) as again:
        assert counts(again.add(public, rehash=True)) == {"unchanged": 6}
        assert all(thumbnail.data for thumbnail in again.thumbnails())
        with pytest.raises(SourceUnavailable, match="rejects the credentials"):
            again.add(public, anonymous=False)


def test_anonymous_has_no_effect_on_files(index: ImageIndex, folder: Path) -> None:
    with pytest.raises(UsageError, match="no effect without the address of a bucket"):
        index.add(folder, anonymous=True)


def test_a_new_index_is_made_anonymously_by_the_command_line(run: Run, public: str, relay: Relay) -> None:
    environment = {"AWS_ENDPOINT_URL": relay.endpoint}
    done = run("add", public, "--anonymous", *SMALL, "--json", env=environment)
    assert (done.returncode, json.loads(done.stdout)["added"]) == (0, 6), done.stderr
    done = run("add", public, "--rehash", "--json", env=environment)
    assert (done.returncode, json.loads(done.stdout)["unchanged"]) == (0, 6), done.stderr
