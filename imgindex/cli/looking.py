"""What several commands show besides their answer: a page, contact sheets, thumbnails in the terminal."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from imgindex.cli.output import progress, remark, write
from imgindex.errors import UsageError

if TYPE_CHECKING:
    from imgindex.index import ImageIndex
    from imgindex.reports.pages.model import Page
    from imgindex.reports.terminal import Screen

KINDS = ("auto", "kitty", "iterm2", "sixel", "blocks")


def _kind(name: str | None) -> str | None:
    if name is not None and name not in KINDS:
        raise UsageError(f"no terminal shows pictures as {name!r}", hint=f"choose one of: {', '.join(KINDS)}")
    return name


Html = Annotated[
    str | None,
    typer.Option("--html", metavar="FILE", help="Write a page to look at too; its pictures are inside."),
]
Sheet = Annotated[
    str | None, typer.Option("--sheet", metavar="FILE.png", help="Write the images as a contact sheet too.")
]
Preview = Annotated[bool, typer.Option("--preview", help="Show thumbnails in the terminal too.")]
PreviewAs = Annotated[
    str | None,
    typer.Option(
        "--preview-as",
        metavar="KIND",
        callback=_kind,
        help="The same, as kitty, iterm2, sixel or blocks; --preview chooses by the terminal.",
    ),
]


@dataclass(frozen=True, slots=True)
class Looks:
    """What is wanted besides the answer; `screen` where thumbnails can be shown."""

    html: str | None
    sheet: str | None
    screen: Screen | None
    quiet: bool

    def __bool__(self) -> bool:
        return bool(self.html or self.sheet or self.screen)


def wanted(
    html: str | None, sheet: str | None, preview: bool, preview_as: str | None, *, table: bool, quiet: bool = False
) -> Looks:
    """Return what is to be shown, and say why where thumbnails cannot be. table: whether the answer is one, on stdout.

    Raises UsageError for names that no page or sheet can have, before any work is done.
    """
    if html == "" or sheet == "":
        raise UsageError(f"{'--html' if html == '' else '--sheet'} '' names no file")
    if sheet is not None:
        from imgindex.looking.pages import check_sheet

        check_sheet(sheet)
    screen = None
    if preview or preview_as:
        if not table:
            remark("no thumbnails: they are shown with a table alone, in a terminal", quiet=quiet)
        elif sys.stdout is None or not sys.stdout.isatty():
            remark("no thumbnails: stdout is no terminal; --html FILE writes a page instead", quiet=quiet)
        else:
            screen = _screen(preview_as or "auto")
            if screen is None:
                remark("no thumbnails: this terminal shows no colours; --preview-as KIND insists", quiet=quiet)
    return Looks(html, sheet, screen, quiet)


def show(index: ImageIndex, page: Page, looks: Looks) -> None:
    """Write a page and its sheets, and show its thumbnails."""
    with progress(quiet=looks.quiet) as on_progress:
        if looks.html is not None:
            index.write_page(page, looks.html, on_progress=on_progress)
        sheets = index.write_sheet(page, looks.sheet, on_progress=on_progress) if looks.sheet is not None else []
    if looks.html is not None:
        remark(f"page in {looks.html}", quiet=looks.quiet)
    for sheet in sheets:
        remark(f"contact sheet in {sheet}", quiet=looks.quiet)
    if looks.screen is not None:
        for part in index.preview(page, looks.screen):
            write(part)


def _screen(kind: str) -> Screen | None:
    from imgindex.reports.terminal import Screen, detect

    columns = os.get_terminal_size(sys.stdout.fileno()).columns or 80
    chosen = detect(os.environ) if kind == "auto" else kind
    if not chosen:
        return None
    cell = _cell()
    return Screen(chosen, columns, cell) if cell else Screen(chosen, columns)


def _cell() -> tuple[int, int] | None:
    """Return a cell's pixels, where the terminal has told the system."""
    try:
        import fcntl
        import struct
        import termios

        size = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8))
    except (ImportError, OSError):
        return None
    rows, columns, width, height = struct.unpack("HHHH", size)
    if not (rows and columns and width >= 4 * columns and height >= 8 * rows):
        return None
    return min(width // columns, 40), min(height // rows, 80)
