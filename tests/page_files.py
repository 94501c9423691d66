"""Reads the data of pages that are files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def page_data(page: Path | str) -> dict[str, Any]:
    """Return what the script of a page draws; page: its path or its text."""
    text = page.read_text(encoding="utf-8") if isinstance(page, Path) else page
    return dict(json.loads(text.split('id="data">')[1].split("</script>")[0]))
