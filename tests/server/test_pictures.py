"""Pictures: each is decoded once and kept, what cannot be read has its reason, and a client may leave."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from pictures import draw

from imgindex.decoding.thumbnails import ThumbnailMaker, ThumbnailPixels
from imgindex.errors import UnreadableImage
from imgindex.server.pictures import LARGE_SIDES, PART, Pictures, Shown
from imgindex.sources.registry import read_content


def shown(path: Path) -> Shown:
    return Shown(str(path), read_content(str(path)).sha256)


async def packed(pictures: Pictures, images: list[Shown | None]) -> dict[int, bytes]:
    data = b"".join([part async for part in pictures.pack(images)])
    parts, at = {}, 0
    while at < len(data):
        place, _, length = PART.unpack_from(data, at)
        parts[place] = data[at + PART.size : at + PART.size + length]
        at += PART.size + length
    return parts


def test_a_thumbnail_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images: list[Shown | None] = [shown(draw(tmp_path / f"{number}.png", number)) for number in range(5)]
    made: list[str] = []
    make = ThumbnailMaker.make

    def counting(maker: ThumbnailMaker, path: str, *rest: Any) -> ThumbnailPixels:
        made.append(path)
        return make(maker, path, *rest)

    monkeypatch.setattr(ThumbnailMaker, "make", counting)
    pictures = Pictures(str(tmp_path / "it.imgindex"))
    (tmp_path / "it.imgindex").mkdir()
    first = asyncio.run(packed(pictures, images))
    assert sorted(first) == [0, 1, 2, 3, 4]
    pictures._lookup.submit(lambda: None).result()  # they are kept after the pack was sent
    assert asyncio.run(packed(pictures, images)) == first
    assert len(made) == 5
    pictures.close()


def test_who_sees_thumbnails_has_a_decoder_of_large_pictures_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    monkeypatch.setattr(ThumbnailMaker, "start", lambda maker: started.append(maker.side))
    image = shown(draw(tmp_path / "0.png", 0))
    (tmp_path / "it.imgindex").mkdir()
    pictures = Pictures(str(tmp_path / "it.imgindex"))
    for _ in range(2):
        asyncio.run(packed(pictures, [image]))
    pictures.close()
    pictures._threads.shutdown()
    assert started == [LARGE_SIDES[0]]


def test_no_more_than_two_images_are_decoded_at_once_and_a_client_may_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, most, total, lock = 0, 0, 0, threading.Lock()

    def slow(maker: ThumbnailMaker, path: str, *rest: Any) -> ThumbnailPixels:
        nonlocal at_work, most, total
        with lock:
            at_work, total = at_work + 1, total + 1
            most = max(most, at_work)
        threading.Event().wait(0.05)
        with lock:
            at_work -= 1
        return ThumbnailPixels(path, None, "it is slow")

    monkeypatch.setattr(ThumbnailMaker, "make", slow)
    pictures = Pictures(str(tmp_path))

    async def leave() -> None:
        pack = pictures.pack([Shown(str(number), bytes([number])) for number in range(100)])
        await anext(pack)
        await anext(pack)
        await pack.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert most == 2
    pictures._threads.submit(lambda: None).result()
    assert total < 10
    pictures.close()


def test_what_is_not_a_picture_has_no_large_one(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"<svg onload=alert(1)/>")
    pictures = Pictures(str(tmp_path))
    with pytest.raises(UnreadableImage):
        asyncio.run(pictures.picture(str(tmp_path / "a.jpg"), 500))
    pictures.close()
