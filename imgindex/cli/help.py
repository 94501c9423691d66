"""The layout of the help: commands in sections, examples at the end, columns that fit the terminal."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from imgindex.cli.files import with_files
from imgindex.errors import UsageError

# Every command of `imgindex --help`, in the order in which it lists them.
SECTIONS = {
    "Index": ("add", "status", "list", "remove", "failures"),
    "Search": ("similar", "lookup"),
    "Cluster": ("cluster", "clusterings", "label"),
    "Curate": ("duplicates", "outliers", "leak", "tag"),
    "Look": ("serve",),
    "Export": ("export",),
    "Maintain": ("verify", "repair", "compact", "bench"),
}
EXAMPLES = "Examples:\n"
WIDEST, NARROWEST = 80, 30


def width() -> int:
    """Return how many columns the help fills: those of the terminal, at most 80."""
    # The parser's own limit is 50 columns at least, which a narrower terminal would break into ragged lines.
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns) - 2)


def add_command(app: typer.Typer, name: str, function: Callable[..., int]) -> None:
    """Add a command, whose docstring is its help; the examples that the docstring ends with come after the options."""
    text, epilog = _help_and_examples(function)
    app.command(name, cls=Command, help=text, epilog=epilog)(with_files(function))


def add_group(
    app: typer.Typer, name: str, function: Callable[..., int], subcommands: Mapping[str, Callable[..., int]]
) -> None:
    """Add a command that does something by itself, and has subcommands."""
    text, epilog = _help_and_examples(function)
    group = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
    group.callback(cls=Group, help=text, epilog=epilog)(with_files(function))
    for subname, subfunction in subcommands.items():
        add_command(group, subname, subfunction)
    app.add_typer(group, name=name)


class Command(TyperCommand):
    """A command whose help fits a narrow terminal."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help."""
        _fit_columns(formatter)
        super().format_help(ctx, formatter)


class Group(TyperGroup):
    """A group of commands: its help lists them first, in sections, and with their whole first sentence."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help."""
        _fit_columns(formatter)
        super().format_help(ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options."""
        names = self.list_commands(ctx)
        sections = SECTIONS if ctx.parent is None else {"Commands": names}
        first_column = max(map(len, names))
        for section, members in sections.items():
            rows = [(name.ljust(first_column), self.commands[name].get_short_help_str(1000)) for name in members]
            with formatter.section(section):
                formatter.write_dl(rows)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write nothing: `format_options` has written the commands."""


def put_options_last(context: typer.Context) -> None:
    """Raise a usage error if options of a subcommand stand before its name, where they would have no effect."""
    given = [name for name in context.params if _is_given(context, name)]
    if given:
        command = f"{context.info_name} {context.invoked_subcommand}"
        raise UsageError(f"the options of `imgindex {command}` stand after its name", hint="move them there")


def _help_and_examples(function: Callable[..., int]) -> tuple[str, str]:
    text, heading, examples = (inspect.getdoc(function) or "").partition(EXAMPLES)
    # \b keeps the parser from joining the lines of a paragraph.
    return text.strip(), f"\b\n{heading}{examples.rstrip()}"


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _fit_columns(formatter: Any) -> None:
    """Make the table of options fit: without types, and with a first column of at most a third of the width.

    A longer option gets its own line.
    """
    write = formatter.write_dl

    def write_dl(rows: Sequence[tuple[str, str]], *args: Any, **options: Any) -> None:
        # Some versions of the parser write the Python type of an argument behind its name: PATH <list[str]>.
        rows = [(re.sub(r" <[\w\[\] ]+>$", "", name), text) for name, text in rows]
        write(rows, *args, **{"col_max": min(30, formatter.width // 3), **options})

    formatter.write_dl = write_dl
