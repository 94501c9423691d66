"""An index that a newer imgindex wrote is refused as newer, never as damaged, and nothing in it is changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from grid_mean import GRID_RECIPE, GridMean
from pictures import contents, draw

from imgindex import ImageIndex
from imgindex.errors import FormatTooNew, IndexDamaged
from imgindex.storage import checksum
from imgindex.storage.schema import NEWEST
from imgindex.storage.verify import check

NEXT = f"pragma user_version = {NEWEST + 1}"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six pictures and their index, which has a clustering."""
    folder = tmp_path_factory.mktemp("sound")
    for number in range(6):
        draw(folder / "pictures" / f"{number}.png", number)
    with ImageIndex.create(folder / "it.imgindex", encoder=GridMean()) as index:
        index.add([folder / "pictures"])
        index.cluster(k=2)
    return folder


@pytest.fixture
def home(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    return tmp_path / "it.imgindex"


def run_sql(home: Path, *statements: str, values: tuple[object, ...] = ()) -> None:
    """Change a catalogue, and write its checksum as a newer imgindex would."""
    with closing(sqlite3.connect(home / "catalogue.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement, values if "?" in statement else ())
        connection.execute("pragma wal_checkpoint(truncate)")
    checksum.write(str(home / "catalogue.db"))


def higher_version(home: Path) -> None:
    run_sql(home, NEXT)


def without_a_right_checksum(home: Path) -> None:
    before = (home / "catalogue.db.crc32").read_bytes()
    run_sql(home, NEXT)
    (home / "catalogue.db.crc32").write_bytes(before)


def more_columns_and_tables(home: Path) -> None:
    run_sql(
        home, "alter table images add column colour", "create table people (name)", "drop table runs", NEXT
    )  # fmt: skip


def unknown_field_in_the_recipe(home: Path) -> None:
    recipe = json.dumps(json.loads(GRID_RECIPE.to_json()) | {"resampling": "lanczos"}, sort_keys=True)
    run_sql(home, "update settings set value = ? where key = 'recipe'", NEXT, values=(recipe,))
    digest = hashlib.sha256(recipe.encode()).hexdigest()
    run_sql(home, "update settings set value = ? where key = 'recipe_digest'", values=(digest,))


def no_recipe_in_the_settings(home: Path) -> None:
    run_sql(home, "delete from settings", NEXT)


def unknown_fields_in_a_clustering(home: Path) -> None:
    with closing(sqlite3.connect(home / "catalogue.db")) as connection:
        (text,) = connection.execute("select receipt from clusterings").fetchone()
    provenance = json.dumps({"method": "spectral", **json.loads(text), "sizes": {"0": 3}})
    run_sql(home, "update clusterings set receipt = ?", NEXT, values=(provenance,))
    run_sql(home, "update clusterings set clusters = ?", values=('{"0": "a"}',))


def newer_segments(home: Path) -> None:
    header_of_version_2(home)
    run_sql(home, NEXT)


def newer_checksum(home: Path) -> None:
    run_sql(home, NEXT)
    checksum_of_version_3(home)


def another_place_for_the_log(home: Path) -> None:
    run_sql(home, NEXT)
    (home / "catalogue.db-journal").mkdir()


def no_segments(home: Path) -> None:
    shutil.rmtree(home / "segments")
    run_sql(home, NEXT)


NEWER = (
    higher_version,
    without_a_right_checksum,
    more_columns_and_tables,
    unknown_field_in_the_recipe,
    no_recipe_in_the_settings,
    unknown_fields_in_a_clustering,
    newer_segments,
    newer_checksum,
    another_place_for_the_log,
    no_segments,
)


def header_of_version_2(home: Path) -> None:
    """Give a segment the header of a newer version, which has a right CRC32 and a field of its own."""
    path = home / "segments/000001.vec"
    data = bytearray(path.read_bytes())
    data[8:12], data[72:80] = struct.pack("<I", 2), b"new data"
    data[64:68] = struct.pack("<I", zlib.crc32(data[:64]))
    path.write_bytes(data)


def checksum_of_version_3(home: Path) -> None:
    text = b"imgindex catalogue 3 sha256 " + b"ab" * 32 + b" closed"
    (home / "catalogue.db.crc32").write_bytes(b"%s %08x\n" % (text, zlib.crc32(text)))


def refused(home: Path, *uses: Callable[[], object]) -> None:
    """Whether each use raises FormatTooNew, with the way out, and changes no file."""
    before = contents(home)
    for use in uses:
        with pytest.raises(FormatTooNew) as caught:
            use()
        assert "pip install --upgrade" in caught.value.hint
    assert contents(home) == before


@pytest.mark.parametrize("make", NEWER, ids=lambda make: make.__name__.replace("_", " "))
def test_a_newer_catalogue_is_refused_by_every_door_before_anything_else_is_checked(
    home: Path, make: Callable[[Path], None]
) -> None:
    make(home)
    refused(
        home,
        lambda: ImageIndex.open(home),
        lambda: check(str(home)),
        lambda: check(str(home), full=True),
        lambda: ImageIndex.repair(home, encoder=GridMean()),
    )


def test_a_version_that_only_the_log_has_is_refused(home: Path) -> None:
    with closing(sqlite3.connect(home / "catalogue.db", isolation_level=None)) as writer:
        writer.execute("pragma wal_autocheckpoint = 0")
        writer.execute("create table people (name)")
        writer.execute(NEXT)
        refused(home, lambda: ImageIndex.open(home), lambda: check(str(home)))


def test_a_catalogue_that_a_newer_imgindex_migrated_meanwhile_is_not_written_to(home: Path) -> None:
    with ImageIndex.open(home, encoder=GridMean()) as index:
        higher_version(home)
        draw(home.parent / "pictures/new.png", 60)
        refused(home, lambda: index.add([home.parent / "pictures"]), index.compact)


@pytest.mark.parametrize("make", [header_of_version_2, checksum_of_version_3])
def test_files_of_a_newer_version_are_refused_though_the_catalogue_has_a_known_one(
    home: Path, make: Callable[[Path], None]
) -> None:
    make(home)

    def read() -> None:
        with ImageIndex.open(home) as index:
            index.vectors()

    def write() -> None:
        with ImageIndex.open(home, encoder=GridMean()) as index:
            index.add([home.parent / "pictures"])

    refused(home, read, write, lambda: check(str(home)), lambda: ImageIndex.repair(home, encoder=GridMean()))


def test_a_changed_digit_in_a_checksum_does_not_make_it_newer(home: Path) -> None:
    path = home / "catalogue.db.crc32"
    path.write_bytes(path.read_bytes().replace(b"catalogue 2 ", b"catalogue 3 "))
    assert checksum.read(str(home / "catalogue.db")) is None
    ImageIndex.open(home).close()


def test_a_recipe_with_a_new_field_is_refused_as_newer(home: Path) -> None:
    recipe = json.dumps(json.loads(GRID_RECIPE.to_json()) | {"resampling": "lanczos"}, sort_keys=True)
    run_sql(home, "update settings set value = ? where key = 'recipe'", values=(recipe,))
    with pytest.raises(FormatTooNew, match="not known: resampling") as raised:
        ImageIndex.open(home)
    assert "upgrade" in str(raised.value.hint)


def test_unknown_fields_in_a_clustering_of_a_known_format_are_damage(home: Path) -> None:
    run_sql(home, "update clusterings set clusters = ?", values=('{"0": "a"}',))
    with ImageIndex.open(home) as index, pytest.raises(IndexDamaged, match="clustering 1"):
        _ = index.clusterings.newest
