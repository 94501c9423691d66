"""The campaign on random TIFFs and PNGs finds no difference, and reports one that is planted."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pixels
import pytest

from imgindex.decoding import values


def test_random_tiffs_and_pngs_have_the_pixels_of_other_decoders() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = pixels.run("ci")
    assert figures["lost"] == []
    assert figures["outcomes"]["equal"] > 300
    assert figures["outcomes"]["refused"] < 50


def test_a_case_is_made_by_its_number_and_the_seed_alone() -> None:
    made = [pixels.png_case(random.Random("0/5")).data for _ in range(2)]
    assert made[0] == made[1]


@pytest.mark.filterwarnings("ignore")
def test_a_wrong_range_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_limits", lambda numbers, declared, nodata: ((0.0, float(np.max(numbers)) * 2), []))
    assert len(pixels.run("ci", cases=60)["lost"]) > 5
