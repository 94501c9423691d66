"""The options that show images beside the answer: an HTML page, contact sheets, thumbnails in the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from imgindex.cli import output
from imgindex.cli.files import STDOUT_FILE
from imgindex.cli.output import progress, remark, size, write
from imgindex.errors import UsageError

if TYPE_CHECKING:
    from imgindex.gallery.terminal import Screen
    from imgindex.index import ImageIndex
    from imgindex.results import Answer, Clustering, Duplicates, Outlier

# Images that the page of a clustering lists, as `ImageIndex.gallery` has it.
LISTED = 2000
KINDS = ("auto", "kitty", "blocks")


def _check_kind(name: str | None) -> str | None:
    if name is not None and name not in KINDS:
        raise UsageError(f"unknown kind of preview {name!r}", hint=f"choose one of: {', '.join(KINDS)}")
    return name


Html = Annotated[
    str | None,
    typer.Option("--html", metavar="FILE", help="Also write a page that shows the images; they are inside the file."),
]
Sheet = Annotated[str | None, typer.Option("--sheet", metavar="FILE.png", help="Also write a contact sheet.")]
Preview = Annotated[bool, typer.Option("--preview", help="Also show thumbnails in the terminal.")]
PreviewAs = Annotated[
    str | None,
    typer.Option(
        "--preview-as",
        metavar="KIND",
        callback=_check_kind,
        help="Also show thumbnails, as kitty or blocks.",
        show_default="by the terminal",
    ),
]


class GalleryOptions:
    """What a command shows beside its answer: a page, contact sheets, thumbnails, or nothing.

    table: whether the answer is a table on stdout. A remark gives the reason if thumbnails cannot be shown. Raises
    UsageError for a name that a page or sheet cannot have, before any work is done.
    """

    def __init__(
        self,
        *,
        html: str | None,
        sheet: str | None,
        preview: bool,
        preview_as: str | None,
        table: bool,
        quiet: bool,
    ) -> None:
        if html == "" or sheet == "":
            raise UsageError(f"{'--html' if html == '' else '--sheet'} '' names no file", hint="is a variable empty?")
        if sheet is not None:
            from imgindex.gallery.contact_sheet import check_sheet

            check_sheet(sheet)
        self._html = html
        self._sheet = sheet
        self._quiet = quiet
        self._screen = _screen(preview_as or "auto", table=table, quiet=quiet) if preview or preview_as else None

    @property
    def wanted(self) -> bool:
        """Whether anything is shown beside the answer."""
        return bool(self._html or self._sheet or self._screen)

    def show(
        self,
        opened: ImageIndex,
        found: Clustering | Duplicates | Sequence[Answer] | Sequence[Outlier],
        *,
        maps: Sequence[str] = ("pca",),
        images: int | None = LISTED,
    ) -> None:
        """Write the page and the sheets, and print the thumbnails, as far as they are wanted.

        maps, images: as `ImageIndex.gallery`, for the page of a clustering.
        """
        if not self.wanted:
            return
        overwrite, sheets = output.settings.overwrite, []
        with progress(quiet=self._quiet) as on_progress:
            here = os.getcwd()
            page = opened.gallery(found, maps=maps, images=images, relative_to=here, on_progress=on_progress)
            if self._html is not None:
                page.write_html(self._html, overwrite=overwrite, on_progress=on_progress)
            if self._sheet is not None:
                sheets = page.write_sheet(self._sheet, overwrite=overwrite, on_progress=on_progress)
        if self._html is not None and self._html != STDOUT_FILE:
            remark(f"page in {self._html} ({size(os.path.getsize(self._html))})", quiet=self._quiet)
        for sheet in sheets:
            if sheet != STDOUT_FILE:
                remark(f"contact sheet in {sheet}", quiet=self._quiet)
        if self._screen is not None:
            for part in page.preview(self._screen):
                write(part)


def _screen(kind: str, *, table: bool, quiet: bool) -> Screen | None:
    """Return the terminal as a screen for thumbnails; if it cannot show them, print the reason and return None."""
    from imgindex.gallery.terminal import Screen, detect

    if not table or output.settings.is_stdout_taken:
        remark("no thumbnails: --preview needs a table on stdout", quiet=quiet)
        return None
    if sys.stdout is None or not sys.stdout.isatty():
        remark("no thumbnails: stdout is not a terminal; --html FILE writes a page instead", quiet=quiet)
        return None
    chosen = detect(os.environ) if kind == "auto" else kind
    if not chosen:
        remark("no thumbnails: this terminal shows no colours; --preview-as KIND draws them anyway", quiet=quiet)
        return None
    columns = os.get_terminal_size(sys.stdout.fileno()).columns or 80
    cell = _cell()
    return Screen(chosen, columns, cell) if cell else Screen(chosen, columns)


def _cell() -> tuple[int, int] | None:
    """Return the width and height of a character in pixels, if the terminal reports them."""
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
