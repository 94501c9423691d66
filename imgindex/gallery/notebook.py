"""What a notebook shows of an index or a result: small pictures under headings, as HTML that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from imgindex.decoding.thumbnails import Thumbnail, thumbnails
from imgindex.export.tables import printable
from imgindex.gallery.model import ImageCard, Section

# The longer side of a picture in pixels, and how many a section and the whole output have.
SIDE = 96
IN_SECTION, IN_ALL = 12, 96
CELL = f"display:inline-block;width:{SIDE + 8}px;margin:4px;vertical-align:top;font-size:11px;overflow-wrap:anywhere"


def sheet_html(title: str, sections: Sequence[Section], *, in_section: int = IN_SECTION) -> str:
    """Return the HTML of a title and of the first images of each section, with their pictures inside.

    An image that is missing or unreadable is shown as the reason. The HTML has no script, and names are escaped. Raises
    DecoderUnavailable.
    """
    left, chosen = IN_ALL, []
    for section in sections:
        cards = section.cards[: min(in_section, left)]
        left -= len(cards)
        if cards:
            chosen.append((section, cards))
    paths = list(dict.fromkeys(card.path for _, cards in chosen for card in cards if card.path))
    pictures = {one.path: one for one in thumbnails(paths, side=SIDE)}
    parts = [f"<p><b>{_text(title)}</b></p>"]
    for section, cards in chosen:
        more = len(section.cards) - len(cards)
        heading = [section.title, f"{more:,} more" if more else ""]
        parts.append(f"<p>{_text(' · '.join(filter(None, heading)))}</p>" if any(heading) else "")
        parts.append(f"<div>{''.join(_cell(card, pictures.get(card.path)) for card in cards)}</div>")
    return f"<div>{''.join(parts)}</div>"


def _cell(card: ImageCard, picture: Thumbnail | None) -> str:
    inside = ""
    if picture is not None and picture.data:
        data = base64.b64encode(picture.data).decode("ascii")
        inside = f'<img src="data:image/webp;base64,{data}" width="{picture.width}" height="{picture.height}" alt="">'
    elif picture is not None:
        inside = f"<i>{_text(picture.reason)}</i>"
    return f'<div style="{CELL}" title="{_text(card.display_name)}">{inside}<br>{_text(card.display_caption)}</div>'


def _text(text: str) -> str:
    return escape(printable(text))
