"""Views are kept while they are used, in bounded number and size."""

from __future__ import annotations

import numpy as np
import pytest

from imgindex.server import views
from imgindex.server.problems import RequestRefused
from imgindex.server.views import Views


def test_the_views_that_were_used_least_recently_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MOST_VIEWS", 3)
    kept = Views()
    first, second, third = (kept.put(np.arange(number)).id for number in range(3))
    kept.get(first)
    fourth = kept.put(np.arange(4)).id
    assert [len(kept.get(one).ids) for one in (first, third, fourth)] == [0, 2, 4]
    with pytest.raises(RequestRefused) as refused:
        kept.get(second)
    assert refused.value.problem.status == 404


def test_the_ids_of_all_views_are_bounded_but_a_large_view_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MOST_IDS", 100)
    kept = Views()
    small, large = kept.put(np.arange(60)).id, kept.put(np.arange(500)).id
    assert len(kept.get(large).ids) == 500
    with pytest.raises(RequestRefused):
        kept.get(small)
