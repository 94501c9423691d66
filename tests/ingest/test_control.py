"""How the caller of a long run ends the wait for another process that writes."""

from __future__ import annotations

import pytest

from imgindex.ingest.control import RunControl


def test_a_run_waits_only_if_it_was_asked_to_and_until_it_is_stopped() -> None:
    assert not RunControl().go_on_waiting()
    assert not RunControl(stop=lambda: True).go_on_waiting()
    assert RunControl(wait=True).go_on_waiting()
    with pytest.raises(KeyboardInterrupt):
        RunControl(wait=True, stop=lambda: True).go_on_waiting()
