"""Reading CSV files."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgindex.errors import SampleMismatch, UsageError
from imgindex.export.csv_input import parse_csv, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_of_another_system_is_read(tmp_path: Path, encoding: str, end: str) -> None:
    (tmp_path / "s.csv").write_bytes(f"ImageID,label{end}\u00e9,0{end}".encode(encoding))
    assert parse_csv(read_text(tmp_path / "s.csv"), "it", example="") == (["ImageID", "label"], [["\u00e9", "0"]])


@pytest.mark.parametrize("data", ["ImageID,label\n1,0\n".encode("utf-16-le"), b"\0" * 10, b"\xff\xfea\0\0\xd8"])
def test_nuls_and_a_broken_encoding_are_explained(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "s.csv").write_bytes(data)
    with pytest.raises(UsageError) as caught:
        read_text(tmp_path / "s.csv")
    assert "UTF-8" in caught.value.hint


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_separators_are_named(mark: str) -> None:
    with pytest.raises(SampleMismatch, match="not by commas"):
        parse_csv(f"ImageID{mark}label\n1{mark}0\n", "it", example="ImageID,label", error=SampleMismatch)
