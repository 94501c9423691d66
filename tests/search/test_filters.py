"""Conditions on images: what each column says, and that nothing but these columns can be read."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from grid_mean import GRID_RECIPE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import contents, draw

from imgindex import ImageIndex
from imgindex.errors import UsageError
from imgindex.search.filters import COLUMNS, select
from imgindex.storage.records import NewImage
from imgindex.storage.store import Store
from imgindex.types import FoundFile

# Path below the folder of the index, width, height, format, size in bytes, days after 2024-01-01.
FILES: list[tuple[str | bytes, int, int, str, int, int]] = [
    ("data/test/0.jpg", 640, 480, "JPEG", 1000, 0),
    ("data/test/1.JPG", 480, 640, "JPEG", 2000, 1),
    ("data/train/2.png", 1200, 600, "PNG", 3000, 2),
    ("3", 1200, 1200, "PNG", 4000, 3),
    (b"data/\xff\n'\".tar.gz", 10, 10, "GIF", 5000, 4),
    ("/elsewhere/5.jpg", 2000, 1000, "JPEG", 6000, 5),
    ("data/hidden/6.jpg", 9999, 9999, "JPEG", 6000, 6),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """An index of six images with the ids 1 … 6, and a seventh that is hidden; some have tags and metadata."""
    home = tmp_path_factory.mktemp("home")
    described = {"recipe": GRID_RECIPE.to_json(), "recipe_digest": GRID_RECIPE.digest, "dimension": "12"}
    store = Store.create(str(home / "it.imgindex"), described | {"store": "float32"})
    with store.writing() as writer:
        for number, (name, width, height, kind, size, day) in enumerate(FILES):
            path = os.path.join(str(home), os.fsdecode(name))
            file = FoundFile(path, size, (1704067200 + 86400 * day) * 10**9)
            writer.put(NewImage(file, bytes([number]) * 32, width, height, kind), np.zeros(12, np.float32))
        writer.commit()
        with writer.catalogue.atomic():
            writer.catalogue.set_present([7], False)
            run = writer.catalogue.connection.executemany
            run("insert into tags values (?, ?)", [(1, "cat"), (1, "a dog"), (2, "cats"), (7, "cat")])
            rows = [(1, "Age", 3), (2, "Age", 2.5), (3, "Age", "old"), (1, 'a "key"', "x'y"), (4, "width", 7)]
            run("insert into metadata values (?, ?, ?)", rows)
    yield store
    store.close()


MEANINGS = {
    "id in (2, 4)": [2, 4],
    "path = 'data/test/0.jpg'": [1],
    "path like 'data/test/%'": [1, 2],
    "path like '/elsewhere/%'": [6],
    "path glob 'data/*/*.jpg'": [1],
    r"path like '%\udcff%'": [5],
    "name = '2.png'": [3],
    "name like '%tar.gz'": [5],
    "folder = 'data/train'": [3],
    "folder = '.'": [4],
    "folder = 'data' and name like '%''%'": [5],
    "extension = 'jpg'": [1, 2, 6],
    "extension = ''": [4],
    "extension = 'gz'": [5],
    "width > 1000 and height >= 1000": [4, 6],
    "pixels < 1e6": [1, 2, 3, 5],
    "aspect between 1.1 and 1.9": [1],
    "format <> 'JPEG'": [3, 4, 5],
    "size % 2000 = 0": [2, 4, 6],
    "modified >= '2024-01-03'": [3, 4, 5, 6],
    "modified = '2024-01-02T00:00:00+00:00'": [2],
    "added_at > date('now', '-2 days')": [1, 2, 3, 4, 5, 6],
    "tags match 'cat'": [1],
    "tags match 'a dog' and tags match 'cat'": [1],
    "tags match 'dog'": [],
    "(TAGS) not match 'cat' or \"tags\" match 'no'": [2],
    "'tags match' = 'tags match' and [tags] match 'cat'": [1],
    "age match 'OLD'": [3],
    "age match 'ol' or age match '' or tags match ''": [],
    "folder match 'data test'": [1, 2],
    "name match 'tar'": [5],
    "width match 640": [1],
    "tags like '%cat%'": [1, 2],
    "tags = 'a dog,cat'": [1],
    "tags is null": [3, 4, 5, 6],
    "cluster = 0": [2],
    "CLUSTER_NAME = 'beach'": [2, 6],
    "cluster is null": [1, 4, 5],
    "age > 2.5 and typeof(age) = 'integer'": [1],
    "Age = 'old'": [3],
    '"A ""key""" = \'x\'\'y\'': [1],
    '[a "key"] is not null or `a "key"` = \'z\'': [1],
    "metadata_width = 7": [4],
    "width > (select avg(width) from images)": [3, 4, 6],
    "(select count(*) from images as other where other.width = images.width) = 2": [3, 4],
    "1 -- 'whatever": [1, 2, 3, 4, 5, 6],
    "'no number'": [],
    "null": [],
}
LABELS = {2: (0, "beach"), 3: (1, None), 6: (2, "beach")}


@pytest.fixture(autouse=True)
def labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index of these tests has labels, as a clustering would give them."""
    monkeypatch.setattr("imgindex.search.filters.labels_by_image", lambda catalogue: LABELS)


@pytest.mark.parametrize("where", MEANINGS)
def test_each_column_means_what_its_name_says(store: Store, where: str) -> None:
    ids = select(store, where)
    assert ids is not None
    assert (ids.dtype, ids.tolist()) == (np.int64, MEANINGS[where])


def test_every_column_of_the_view_was_tried() -> None:
    tried = set(re.findall(r"[a-z_]+", " ".join(MEANINGS).lower()))
    assert set(COLUMNS) <= tried


def test_the_manual_has_a_row_and_an_example_for_each_column(store: Store) -> None:
    manual = Path(__file__).parents[2] / "docs" / "questions.md"
    rows = re.findall(r"^\| `(\w+)` \| .* \| `(.*)` \|$", manual.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [column for column, _ in rows] == list(COLUMNS)
    for column, example in rows:
        assert column in example
        assert select(store, example) is not None


def test_no_condition_selects_all_and_an_unfulfilled_one_nothing(store: Store) -> None:
    assert select(store, None) is None
    assert select(store, "false").tolist() == []


WRONG = {
    "": "it is empty",
    " \n": "it is empty",
    "widht > 3": "no such column: widht",
    'format = "JPEG"': 'no such column: "JPEG"',
    "width >": "syntax error",
    "1;": "syntax error",
    "1; drop table images": "syntax error",
    "1) or (1": "syntax error",
    "1) union select id from (select 1 as id": "syntax error",
    "1 then 1 end, case when 1": "syntax error",
    "1 union select 1": "syntax error",
    "1 /*": "incomplete",
    "?": "bindings",
    ":id = 1": "bindings",
    "count(*) > 1": "misuse",
    "(select value from settings)": "no such table",
    "(select value from main.settings) is null": "no such table",
    "(select count(*) from main.images)": "no such table",
    "id in (select image from tags)": "no such table",
    "(select sql from sqlite_master)": "not authorized|prohibited",
    "(select count(*) from pragma_database_list)": "not authorized|prohibited|constructor failed",
    "(select count(*) from json_each('[1]'))": "not authorized|prohibited|constructor failed",
    "exists (with recursive r(n) as (select 1 union all select n + 1 from r) select n from r)": "not authorized",
    "load_extension('x')": "not authorized",
    "random() > 0": "not authorized",
    "imgindex_label(id)": "not authorized",
    "sha256 is null": "no such column",
    "path regexp 'a'": "not authorized to use function: regexp",
    "abs(-9223372036854775807 - 1) + width": "integer overflow",
    "pragma user_version": "syntax error",
    "attach 'x' as y": "syntax error",
    "\udcff = 1": "surrogates",
    "\0": "null",
}


@pytest.mark.parametrize("where", WRONG, ids=ascii)
def test_an_invalid_condition_is_refused_with_the_problem_and_the_columns(store: Store, where: str) -> None:
    with pytest.raises(UsageError, match=WRONG[where]) as caught:
        select(store, where)
    assert caught.value.exit_code == 2
    assert "single quotes" in caught.value.hint
    assert "path, name, folder" in caught.value.hint
    assert 'Age, "a ""key""", metadata_width' in caught.value.hint


ENDLESS = (
    "(select count(*) from images a, images b, images c, images d, images e, images f, images g, images h, images i,"
)
ENDLESS += " images j, images k, images l) > 0"


def test_a_condition_that_takes_too_long_ends_with_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "condition_seconds", 0.2)
    with pytest.raises(UsageError, match=r"takes longer than 0\.2 seconds"):
        select(store, ENDLESS)
    assert select(store, "id = 1").tolist() == [1]


def test_ctrl_c_ends_a_condition_that_takes_long(store: Store) -> None:
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        select(store, ENDLESS)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert select(store, "id = 1").tolist() == [1]


def test_in_another_thread_than_the_first_a_condition_is_answered_too(store: Store) -> None:
    found: list[object] = []

    def ask() -> None:
        again = Store(store.path)
        found.append(select(again, "width = 640").tolist())
        again.close()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [[1]]


def test_a_condition_is_evaluated_on_the_state_that_is_read(store: Store) -> None:
    with store.reading():
        store.catalogue.count()
        with closing(Store(store.path)) as other, other.writing() as writer, writer.catalogue.atomic():
            writer.catalogue.set_present([7], True)
        try:
            assert select(store, "width = 9999").tolist() == []
        finally:
            with closing(Store(store.path)) as other, other.writing() as writer, writer.catalogue.atomic():
                writer.catalogue.set_present([7], False)


def test_a_condition_works_on_a_catalogue_from_before_tags(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(store.catalogue), "version", 2)
    assert select(store, "tags is null and width = 640").tolist() == [1]
    with pytest.raises(UsageError, match="no such column: age"):
        select(store, "age = 1")


names = st.sampled_from(
    [*COLUMNS, "settings", "main", "images", "tags", "sqlite_master", "Age", '"x"', "segment", "x'ff'"]
)
WORDS = """select from where and or not in ( ) , . ; = < || -- /* */ ' " match like is null case when then end union
all with recursive as exists order by limit group having insert update delete drop attach pragma vacuum begin commit
cast text blob collate nocase sum count abs char 1 0 -1 1e999 'a' '%' values"""
words = st.sampled_from(re.split(r"\s+", WORDS))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(names | words, max_size=14).map(" ".join) | st.text(max_size=30))
def test_whatever_is_written_it_is_answered_or_refused_and_nothing_changes(store: Store, where: str) -> None:
    before = contents(Path(store.path))
    began = time.process_time()
    try:
        ids = select(store, where)
        assert set(ids.tolist()) <= {1, 2, 3, 4, 5, 6}
    except UsageError:
        pass
    assert time.process_time() - began < store.condition_seconds
    assert contents(Path(store.path)) == before
    assert not store.catalogue.connection.in_transaction


def test_ids_are_sorted_by_a_column_and_equal_ones_by_id(index: ImageIndex, tmp_path: Path) -> None:
    for number, size in enumerate([(40, 20), (10, 10), (40, 20), (90, 5)]):
        draw(tmp_path / "pictures" / f"{9 - number}.png", number, size)
    index.add(tmp_path / "pictures")
    widths = {image.id: image.width for image in index.images()}
    for order, backwards in (("width", False), ("-width", True)):
        ids = index.ids(sort=order).tolist()
        assert [widths[id] for id in ids] == sorted(widths.values(), reverse=backwards)
        equal = [id for id in ids if widths[id] == 40]
        assert equal == sorted(equal)
    assert [widths[id] for id in index.ids(where="width > 10", sort="-pixels").tolist()] == [40, 40, 90]
    with pytest.raises(UsageError, match="cannot be sorted by 'width; drop'") as caught:
        index.ids(sort="width; drop")
    assert "added_at" in caught.value.hint


def test_images_of_some_ids_come_in_their_order_with_their_tags(index: ImageIndex, folder: Path) -> None:
    index.add(folder)
    index.tag("cat", folder / "a")
    found = list(index.images(ids=[9, 2, 77, -(2**70)]))
    assert [(image.id, image.tags) for image in found] == [(9, ()), (2, ("cat",))]
    assert found[1] == next(iter(index.images(where="id = 2")))
    assert [image.id for image in index.images(ids=[9, 2], where="tags match 'cat'")] == [2]
