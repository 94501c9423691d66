"""The files of the page: all are served, none asks another host for anything, and none sets markup."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from serving import at

import imgindex.gallery
import imgindex.server
from imgindex.server.assets import ASSETS, PAGE

OWN = Path(imgindex.server.__file__).parent / "pages"
SHARED = Path(imgindex.gallery.__file__).parent / "assets"


def test_every_file_of_the_page_is_served_with_its_type(client: httpx.Client) -> None:
    assert {path.name for folder in (OWN, SHARED) for path in folder.iterdir()} == set(ASSETS)
    types = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
    for name in ASSETS:
        path = "/" if name == PAGE else f"/assets/{name}"
        answer = client.get(at(client, path))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == f"{types[Path(name).suffix]}; charset=utf-8"
        again = client.get(at(client, path), headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_a_file_of_the_page_names_no_other_host_and_sets_no_markup(name: str) -> None:
    text = ASSETS[name].data.decode()
    assert re.findall(r"https?://(?!127\.0\.0\.1|www\.w3\.org/)", text) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\son\w+=", text) == []
    if name == PAGE:
        assert "<style" not in text
        assert "style=" not in text
        assert re.findall(r"<script(?![^>]*src=)", text) == []


def test_every_import_of_a_script_is_a_file_of_the_page() -> None:
    for name, asset in ASSETS.items():
        imported = re.findall(r'from "\./([^"]+)"', asset.data.decode())
        assert set(imported) <= ASSETS.keys(), name


def test_no_rule_of_the_shared_style_is_in_the_page_s_own_style_again() -> None:
    shared, own = ((folder / "style.css").read_text(encoding="utf-8") for folder in (SHARED, OWN))
    assert ASSETS["style.css"].data.decode() == shared + own
    rules = [{line.strip() for line in part.splitlines() if line.strip().endswith("; }")} for part in (shared, own)]
    assert rules[0] & rules[1] == set()
