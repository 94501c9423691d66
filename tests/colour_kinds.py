"""Pictures of a few kinds of colour, that a clustering tells apart."""

from __future__ import annotations

from pathlib import Path

from pictures import draw

REDS, GREENS, BLUES = (
    [tuple(200 if at == channel else shade for at in range(3)) for shade in range(0, 40, 4)] for channel in range(3)
)


def draw_kinds(folder: Path, **kinds: list[tuple[int, int, int]]) -> None:
    for kind, colours in kinds.items():
        for number, colour in enumerate(colours):
            draw(folder / kind / f"{kind}{number}.png", colour)
