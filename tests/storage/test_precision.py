"""Reports of half precision come back from the catalogue; one that makes no sense is left out."""

from __future__ import annotations

import pytest

from imgindex.storage import precision
from imgindex.storage.catalogue import Catalogue
from imgindex.types import PrecisionReport


def test_a_report_replaces_the_older_one_of_its_precision(catalogue: Catalogue) -> None:
    assert precision.read(catalogue) == {}
    half, brain = PrecisionReport("fp16", 8, 0.9, 0.999), PrecisionReport("bf16", 8, 0.8, 0.99)
    for report in (half, brain, newer := PrecisionReport("fp16", 16, 1.0, 1.0)):
        precision.write(catalogue, report)
    assert precision.read(catalogue) == {"bf16": brain, "fp16": newer}


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        '{"precision": "fp16"}',
        '{"precision": "fp16", "pictures": 0, "overlap": 1.0, "cosine": 1.0}',
        '{"precision": "fp16", "pictures": 8, "overlap": 1.5, "cosine": 1.0}',
        '{"precision": "fp16", "pictures": 8, "overlap": 1.0, "cosine": 7.0}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:60],
)
def test_a_damaged_report_is_left_out_and_the_others_stay(catalogue: Catalogue, text: str) -> None:
    sound = PrecisionReport("bf16", 8, 0.8, 0.99)
    precision.write(catalogue, sound)
    catalogue.set_setting(precision.KEY + "fp16", text)
    assert precision.read(catalogue) == {"bf16": sound}
