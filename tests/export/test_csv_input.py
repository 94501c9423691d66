"""Reading CSV files."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgindex.errors import SampleMismatch
from imgindex.export.csv_input import read_text
from imgindex.export.submission import sample_submission


def test_a_sample_in_utf_16_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes("ImageID,label\n1,0\n".encode("utf-16"))
    with pytest.raises(SampleMismatch):
        sample_submission(read_text(str(tmp_path / "s.csv")), {"1": "1.jpg"}, failed={})
