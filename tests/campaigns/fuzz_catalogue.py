"""Fuzzes the files of an index: bytes of catalogue and segments, and a sound catalogue with wrong contents."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import campaign  # noqa: F401 - puts the tests on the path
from fuzz_bytes import Outcome, altered, tried
from fuzz_statements import ENDLESS, STATEMENTS
from grid_mean import GRID_RECIPE, GridMean, replace_encoder
from pictures import draw

from imgindex import ImageIndex
from imgindex.cli import cluster_tables
from imgindex.export.submission import image_ids, plain_submission
from imgindex.export.tables import Table
from imgindex.results import LabelFormat

PICTURES = 9
VALUES: tuple[Any, ...] = (
    *(None, -1, 0, 1, 2, 12, 4096, 2**31, 2**32, 2**63 - 1, -(2**63), 10**12, 0.5, -1.5, 1e308, float("inf")),
    *("", "0", "text", "a\0b", "../../..", "/", "float16", "float64", "object", "S4", "|O", "x" * 300, "9" * 5000),
    *(b"", b"\0", b"\xff" * 10, b"a\0b", b"x" * 300, b"[" * 300, "é" * 20, "1e3", "٣", " 12 "),
)
NUMBERS = (0, -1, 1, 10**12, 2**63, 2**64, 10**400, 1.5, float("nan"), float("inf"), True, None, "12", [], {})
DEEP = "[" * 200_000
JSONS = ("", "null", "[]", "{}", "1", '"text"', DEEP, '{"a":' * 50_000, "9" * 5000, '{"a": 1e999}', '"\\ud800"', "NaN")
# What a catalogue may do instead of holding a table of that name.
VIEWS = (
    "select * from {0}_2",
    ENDLESS + " select {1} from n",
    "select {1} from {0}",
    ENDLESS + " select {1} from n limit 3",
)
COSTLY = ("zeroblob(900000000)", "printf('%.900000000c', 'x')", "hex(zeroblob(400000000))", "abs(-9223372036854775808)")


class _Index:
    """A sound index beside its pictures, of which each case alters a copy."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.pictures = place / "pictures"
        for number in range(PICTURES):
            draw(self.pictures / f"{number}.png", number)
        (self.pictures / "cut.png").write_bytes((self.pictures / "0.png").read_bytes()[:-30])
        self.sound = place / "sound"
        with ImageIndex.create(self.sound, encoder=GridMean()) as index:
            index.add([self.pictures])
            index.cluster(2, label_format=LabelFormat(extras=("distance", "silhouette")))
            index.clusterings.rename_cluster(1, "others")
            index.tag("a tag", where="id < 4")
            (place / "table.csv").write_text("ImageID,Age,Place\n3,7,Oslo\n4,2.5,\n")
            index.import_csv(place / "table.csv")
            draw(self.pictures / "later.png", 50)
            index.add([self.pictures])
            index.clusterings.assign()
        self.copy = place / "copy"

    def case(self, dice: random.Random) -> list[Outcome]:
        """Alter a copy, use all of it, and return what came of each use."""
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.sound, self.copy)
        self.alter(dice)
        return use(self.copy, self.pictures)

    def alter(self, dice: random.Random) -> None:
        raise NotImplementedError


class CatalogueBytes(_Index):
    """Cases of altered bytes of catalogue.db."""

    def alter(self, dice: random.Random) -> None:
        path = self.copy / "catalogue.db"
        data = path.read_bytes()
        if dice.random() < 0.5:
            # Damage that knows the format would mostly hit the header; pages are where the rows are.
            out = bytearray(data)
            for _ in range(dice.choice((1, 4, 32))):
                out[dice.randrange(100, len(out))] = dice.randrange(256)
            path.write_bytes(out)
        else:
            path.write_bytes(altered(data, dice, [data]))


class SegmentBytes(_Index):
    """Cases of altered bytes of a segment."""

    def alter(self, dice: random.Random) -> None:
        path = self.copy / "segments" / "000001.vec"
        data = path.read_bytes()
        path.write_bytes(altered(data, dice, [data, b"\0" * 4096]))


class CatalogueTables(_Index):
    """Cases of a catalogue that is a sound database with wrong contents or another schema."""

    def alter(self, dice: random.Random) -> None:
        connection = sqlite3.connect(self.copy / "catalogue.db", isolation_level=None)
        try:
            _loosen(connection, dice)
            for _ in range(dice.choice((1, 1, 2, 4))):
                # Some changes make the next ones impossible.
                with contextlib.suppress(sqlite3.Error, OverflowError):
                    dice.choice(LIES)(connection, dice)
        finally:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("pragma wal_checkpoint(truncate)")
            connection.close()
        if dice.random() < 0.8:  # as in an index made up by an attacker: no checksum shows that it was altered
            (self.copy / "catalogue.db.crc32").unlink()


def _loosen(connection: sqlite3.Connection, dice: random.Random) -> None:
    """Take constraints and types out of the tables, half of the time, so that anything can be stored."""
    if dice.random() < 0.5:
        connection.execute("pragma writable_schema = on")
        for words in (" integer not null", " text not null", " blob not null", " not null"):
            connection.execute("update sqlite_master set sql = replace(sql, ?, '')", (words,))
        connection.execute("pragma writable_schema = reset")


def _tables(connection: sqlite3.Connection) -> list[str]:
    names = "select name from sqlite_master where type = 'table' and name not like 'sqlite%' order by name"
    return [row[0] for row in connection.execute(names)]


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"pragma table_info({table})")]


def _statement(connection: sqlite3.Connection, dice: random.Random) -> None:
    connection.executescript(dice.choice(STATEMENTS))


def _wrong_value(connection: sqlite3.Connection, dice: random.Random) -> None:
    table = dice.choice(_tables(connection))
    column, value = dice.choice(_columns(connection, table)), dice.choice(VALUES)
    which = dice.choice(("true", "true", "{0} = (select {0} from {1} order by random() limit 1)"))
    # `order by random()` would differ from run to run.
    which = which.replace("random()", column).format(column, table)
    connection.execute(f"update or ignore {table} set {column} = ? where {which}", (value,))


def _setting(connection: sqlite3.Connection, dice: random.Random) -> None:
    key = dice.choice([row[0] for row in connection.execute("select key from settings order by key")])
    if dice.random() < 0.2:
        connection.execute("delete from settings where key = ?", (key,))
    else:
        value = dice.choice((*VALUES, *JSONS, *map(str, NUMBERS)))
        connection.execute("update settings set value = ? where key = ?", (value, key))


def _recipe(connection: sqlite3.Connection, dice: random.Random) -> None:
    """Change the recipe, with the dimension and digest that go with it or not."""
    fields = json.loads(GRID_RECIPE.to_json())
    field = dice.choice([*fields, "a", "__class__"])
    if field in fields and dice.random() < 0.2:
        del fields[field]
    else:
        fields[field] = dice.choice((*NUMBERS, "", "x" * 1000, [1, 2], ["a", "b", "c"], [1e999] * 3, {"a": {}}))
    text = dice.choice((json.dumps(fields), json.dumps(fields), json.dumps(fields)[:-1], *JSONS))
    connection.execute("update settings set value = ? where key = 'recipe'", (text,))
    if dice.random() < 0.5:
        value = str(fields.get("dimension"))
        connection.execute("update settings set value = ? where key = 'dimension'", (value,))


def _report(connection: sqlite3.Connection, dice: random.Random) -> None:
    value = dice.choice((*JSONS, *VALUES, '{"command": []}', '{"seconds": null}'))
    connection.execute("update runs set report = ?", (value,))


def _no_table(connection: sqlite3.Connection, dice: random.Random) -> None:
    connection.execute("pragma foreign_keys = off")
    connection.execute(f"drop table {dice.choice(_tables(connection))}")


def _no_column(connection: sqlite3.Connection, dice: random.Random) -> None:
    table = dice.choice(_tables(connection))
    column = dice.choice(_columns(connection, table))
    other = dice.choice(("", "other"))
    connection.execute(
        f"alter table {table} rename column {column} to other" if other else f"alter table {table} drop column {column}"
    )


def _view(connection: sqlite3.Connection, dice: random.Random) -> None:
    """Put a view where a table was; some never end."""
    table = dice.choice(_tables(connection))
    columns = ", ".join(f"i as {column}" for column in _columns(connection, table))
    connection.execute(f"alter table {table} rename to {table}_2")
    connection.execute(f"create view {table} as {dice.choice(VIEWS).format(table, columns)}")


def _computed(connection: sqlite3.Connection, dice: random.Random) -> None:
    """Put a view where a table was, in which one column costs memory or fails."""
    table = dice.choice(_tables(connection))
    columns = _columns(connection, table)
    at = dice.randrange(len(columns))
    columns[at] = f"{dice.choice(COSTLY)} as {columns[at]}"
    connection.execute(f"alter table {table} rename to {table}_2")
    connection.execute(f"create view {table} as select {', '.join(columns)} from {table}_2")


def _trigger(connection: sqlite3.Connection, dice: random.Random) -> None:
    table, what = dice.choice(_tables(connection)), dice.choice(("insert", "update", "delete"))
    deed = dice.choice(
        (
            "select raise(abort, 'no')",
            "delete from images",
            "update images set crc32 = 0",
            "select zeroblob(900000000)",
            f"insert into runs {ENDLESS} select i, i, i, i, i from n",
        )
    )
    connection.execute(f"create trigger wrong after {what} on {table} begin {deed}; end")


def _pragma(connection: sqlite3.Connection, dice: random.Random) -> None:
    connection.execute(f"pragma user_version = {dice.choice((-1, 0, 2, 3, 99, 2**31 - 1))}")


def _many(connection: sqlite3.Connection, dice: random.Random) -> None:
    """Add a segment that is not there, or an image that has the place of another."""
    number, rows = dice.choice((0, 2, -1, 10**9, 2**62)), dice.choice((0, 1, -1, 10**9, 2**62))
    connection.execute("insert into segments values (?, ?)", (number, rows))
    if dice.random() < 0.5:
        connection.execute("update images set segment = ?", (number,))


def _receipt(connection: sqlite3.Connection, dice: random.Random) -> None:
    """Change one field of a clustering's receipt, or what it says of its cluster_tables."""
    (text,) = connection.execute("select receipt from clusterings").fetchone()
    try:
        receipt = json.loads(text)
        field = dice.choice(sorted(receipt))
    except (ValueError, TypeError, IndexError):  # an earlier change has made something else of it
        return
    if dice.random() < 0.2:
        del receipt[field]
    else:
        receipt[field] = dice.choice((*NUMBERS, None, "x", [], {}, [1, 2], ["a", "b"], {"a": {}}, [{"k": 1}] * 2))
    connection.execute("update clusterings set receipt = ?", (json.dumps(receipt),))
    if dice.random() < 0.3:
        connection.execute("update clusterings set clusters = ?", (dice.choice((*JSONS, "[1, 1]", "[7, 8]")),))


LIES: tuple[Callable[[sqlite3.Connection, random.Random], None], ...] = (
    *(_statement,) * 12,
    *(_wrong_value,) * 5,
    *(_receipt,) * 3,
    *(_setting, _recipe, _recipe, _report, _no_table, _no_column, _view, _computed, _trigger, _pragma, _many),
)


def _shown(index: ImageIndex) -> tuple[Table, str, str | None]:
    found = index.clusterings.newest
    return cluster_tables.sizes(found), cluster_tables.summary(found), cluster_tables.drift(found)


def use(path: Path, pictures: Path) -> list[Outcome]:
    """Do with an index all that one can do; return what each use came to."""
    opened: list[ImageIndex] = []
    first = tried("open", lambda: opened.append(ImageIndex.open(path)))
    if not opened:
        return [first]
    with opened[0] as index:
        replace_encoder(index, GridMean())
        known = str(pictures / "3.png")
        uses: dict[str, Callable[[], object]] = {
            "images": lambda: list(itertools.islice(index.images(), 10_000)),
            "paths": index.paths,
            "vectors": index.vectors,
            "similar": lambda: index.similar(known, n=3),
            "answers": lambda: index.answers([known, pictures / "cut.png"]),
            "condition": lambda: index.similar(known, where="cluster = 0 or tags match 'a tag' or age > 3"),
            "clusterings": lambda: list(index.clusterings),
            "clustering": lambda: (
                index.clusterings.newest.to_frame(),
                index.label_table(index.clusterings.newest),
                _shown(index),
            ),
            "evaluate": lambda: index.clusterings.evaluate({"3": "a", "4": "b"}),
            "diff": lambda: index.clusterings.diff(1, 1),
            "tags": index.tags,
            "cluster": lambda: index.cluster(2, restarts=1),
            "assign": index.clusterings.assign,
            "label": lambda: index.clusterings.rename_cluster(0, "all"),
            "duplicates": index.duplicates,
            "outliers": index.outliers,
            "page": lambda: index.gallery(index.clusterings.newest),
            "submission": lambda: plain_submission(image_ids(index.paths(), "stem")),
            "status": index.status,
            "failures": lambda: list(index.failures()),
            "verify": lambda: "works" if index.verify(full=True).ok else "problems",
            "export": lambda: index.export(path / "out.npz"),
            "table": lambda: index.export(path / "out.parquet", thumbnails=0),
            "dry run": lambda: index.add([pictures], dry_run=True),
            "add": lambda: index.add([pictures], retry_failed=True),
            "remove": lambda: index.remove([known]),
            "verify after": lambda: "works" if index.verify(full=True).ok else "problems",
        }
        return [tried(name, deed) for name, deed in uses.items()]
