"""Fuzzing finds no faults in imgindex, and reports those that are planted."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import fuzz
import fuzz_pictures
import pytest
from fuzz import DOORS, run
from fuzz_bytes import CHANGES, altered, tried, with_right_checksums
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgindex.errors import UsageError
from imgindex.recipe import RECIPES

DRAWN = fuzz_pictures.drawn()


@pytest.mark.parametrize("door", ["pictures", "archives", "segments", "weights", "samples"])
def test_altered_input_works_or_is_an_error_of_imgindex(door: str) -> None:
    cases = DOORS[door][2]["ci"]
    figures = run("ci", doors={door: cases})
    assert figures["lost"] == []
    assert sum(figures[door]["outcomes"].values()) >= cases
    assert len(figures[door]["outcomes"]) > 1


@pytest.mark.parametrize(("door", "cases"), [("catalogue", 6), ("tables", 10)])
def test_an_altered_catalogue_works_or_is_an_error_of_imgindex(door: str, cases: int) -> None:
    assert run("ci", doors={door: cases})["lost"] == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.sampled_from(DRAWN),
    changes=st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 2**32)), max_size=8),
    whole=st.booleans(),
)
@pytest.mark.filterwarnings("ignore")
def test_any_changes_to_a_picture_leave_a_picture_or_a_reason(data: bytes, changes: list, whole: bool) -> None:
    out = bytearray(data)
    for change, seed in changes:
        change(out, random.Random(seed), DRAWN)
    data = with_right_checksums(bytes(out)) if whole and out.startswith(b"\x89PNG") else bytes(out)
    for name in fuzz_pictures.RECIPE_NAMES:
        assert fuzz_pictures.attempt(data, RECIPES[name]) in {"a picture", "a reason"}


@settings(max_examples=20, deadline=None)
@given(data=st.binary(max_size=300), start=st.sampled_from([b"", *(drawn[:24] for drawn in DRAWN)]))
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_are_a_picture_or_a_reason(data: bytes, start: bytes) -> None:
    assert fuzz_pictures.attempt(start + data, RECIPES["vgg16-pool5"]) in {"a picture", "a reason"}


def test_a_case_is_made_by_its_number_and_the_seed_alone() -> None:
    for number in range(50):
        first, second = (altered(DRAWN[0], random.Random(f"0/{number}"), DRAWN) for _ in range(2))
        assert first == second
    assert len({altered(DRAWN[0], random.Random(f"0/{number}"), DRAWN) for number in range(50)}) > 40


def test_an_error_of_imgindex_is_an_outcome_and_any_other_exception_a_fault() -> None:
    def refuse() -> None:
        raise UsageError("no")

    def break_down() -> None:
        raise ValueError("broken")

    assert tried("it", lambda: None) == ("it: works", None)
    assert tried("it", refuse) == ("it: UsageError", None)
    assert isinstance(tried("it", break_down)[1], ValueError)


PLANTED = """
import os, time
class Planted:
    def __init__(self, place): pass
    def case(self, dice):
        number = self.number = getattr(self, "number", START) + 1
        if number == 3: os.abort()
        if number == 5: time.sleep(60)
        error = {7: KeyError("7"), 9: None}.get(number)
        if number == 9:
            try: bytearray(3 << 30)
            except MemoryError as found: error = found
        return [("done", error)]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux alone")
def test_a_crash_a_hang_an_exception_and_too_much_memory_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each child begins anew behind the case at which the last one ended.
    code = PLANTED.replace("START", "int(__import__('sys').argv[4]) - 1")
    (tmp_path / "planted.py").write_text(code, encoding="utf-8")
    script = Path(fuzz.__file__).read_text(encoding="utf-8")
    door = '    "planted": ("planted", "Planted", {"ci": 12, "full": 12}),\n'
    script = script.replace("DOORS = {\n", "DOORS = {\n" + door).replace("SECONDS = 20", "SECONDS = 2")
    (tmp_path / "fuzz_planted.py").write_text(script, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(Path(fuzz.__file__).parent), prepend=":")
    monkeypatch.syspath_prepend(str(tmp_path))
    import fuzz_planted

    lost = fuzz_planted.run("ci", doors={"planted": 12})["lost"]
    assert len(lost) == 4
    for what in ("ended with -6", "hung", "KeyError", "MemoryError"):
        assert sum(what in line for line in lost) == 1
