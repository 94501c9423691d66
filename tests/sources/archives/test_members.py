"""The lists of members: in order, by path, with what is wrong with some of them."""

from __future__ import annotations

from imgindex.sources.archives.members import AT_ONCE, OVERLAPS, TWICE, Member, Members


def member(path: str, offset: int = 0, packed: int = 10) -> Member:
    return Member(path, 5, 7, "v", offset, packed, raw_name=b"name")


def test_members_come_back_in_order_and_by_path() -> None:
    members = Members()
    first, second = members.new_list(), members.new_list()
    wanted = [member(f"a/{number * 7 % 1000}\udc80", number) for number in range(2 * AT_ONCE)]
    members.extend(first, wanted)
    members.extend(second, [member("b")])
    assert list(members.each(first)) == wanted
    assert list(members.each(second)) == [member("b")]
    found = members.find(first, wanted[7].path)
    assert found == (8, wanted[7])
    assert members.find(second, wanted[7].path) is None
    assert members.known(first, [wanted[1].path, "b"]) == {wanted[1].path}
    assert [members.has_folder(first, name) for name in ("a", "b", "a/7")] == [True, False, False]
    members.delete(first)
    assert list(members.each(second)) == [member("b")]


def test_a_path_that_comes_twice_is_one_unreadable_member() -> None:
    members = Members()
    list_ = members.new_list()
    members.extend(list_, [member("a"), member("b", 1), member("a", 2)])
    assert [(one.path, one.problem) for one in members.each(list_)] == [("a", TWICE), ("b", "")]


def test_members_that_share_bytes_are_unreadable() -> None:
    members = Members()
    list_ = members.new_list()
    # Each has 30 bytes of header, 4 of name and its own: a (0 to 244) contains b and c, d is alone, e reaches too far.
    places = {"b": (100, 10), "a": (0, 210), "c": (200, 5), "d": (300, 10), "e": (500, 80)}
    members.extend(list_, [member(path, *place) for path, place in places.items()])
    members.mark_overlaps(list_, 600)
    wrong = {one.path for one in members.each(list_) if one.problem == OVERLAPS}
    assert wrong == {"a", "b", "c", "e"}
