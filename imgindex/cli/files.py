"""What holds for every command that names files: - is stdin or stdout, and files of the user are not replaced.

`with_files` adds the options --overwrite and -0 to a command, and checks its files before it begins. Options are
recognised by the names of their parameters: a new option that reads or writes a file needs an entry here.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from imgindex.cli import options, output
from imgindex.cli.inputs import STDIN, check_stdin
from imgindex.errors import ImgindexError, UsageError
from imgindex.storage.paths import absolute, real_path

# Parameters that name a file to write, with their options; those that name a folder to fill; those that name a file to
# read.
OUTPUTS = {"out": "--out", "html": "--html", "sheet": "--sheet"}
FOLDERS = {"link_to": "--link-to", "copy_to": "--copy-to"}
# Folders with a journal, by which curation/move_journal.py finds out what is theirs.
JOURNALS = {"move_to": "--move-to", "undo": "--undo"}
INPUTS = {"like": "--like", "truth": "--truth", "csv": "--csv", "source": "--from", "weights": "--weights"}
# Parameters that name several files; - is a list of paths on stdin.
LISTS = ("paths", "images")
STDIN_FILE, STDOUT_FILE = "/dev/stdin", "/dev/stdout"
STDOUT = ("-", STDOUT_FILE, "/dev/fd/1", "/proc/self/fd/1")
Values = dict[str, Any]


def with_files(function: Callable[..., int]) -> Callable[..., int]:
    """Return a command with the option --overwrite if it writes files, and -0 if it prints an answer.

    Its files are checked before it begins. Names that could not be printed change its exit code.
    """
    signature = inspect.signature(function, eval_str=True)
    parameters = dict(signature.parameters)
    added = {}
    if parameters.keys() & (OUTPUTS.keys() | FOLDERS.keys()):
        added["overwrite"] = options.Overwrite
    has_paths = "format" in parameters and parameters["format"].annotation != options.FormatWithoutPaths
    if has_paths and "null" not in parameters:
        added["null"] = options.NullOut

    @functools.wraps(function)
    def command(**values: Any) -> int:
        overwrite, null = values.get("overwrite", False), values.get("null", False)
        for name in added:
            del values[name]
        begin(values, overwrite=overwrite, null=null, has_paths=has_paths)
        code = function(**values)
        return code or (options.SOME_FAILED if output.settings.unprintable else 0)

    for name, annotation in added.items():
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters[name] = inspect.Parameter(name, kind, default=False, annotation=annotation)
    # Typer reads both; it would call a parameter without an annotation text.
    command.__signature__ = signature.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
    command.__annotations__ = {name: one.annotation for name, one in parameters.items()}
    return command


def begin(values: Values, *, overwrite: bool = False, null: bool = False, has_paths: bool = True) -> None:
    """Check the files that the values of a command name, and let those that are - mean stdin or stdout.

    has_paths: whether the answer can be printed as paths. Raises FileNotOurs or FolderNotOurs when something else would
    be replaced, UsageError for options that contradict each other.
    """
    _use_stdin(values)
    output.settings = output.Settings(overwrite, null, _use_stdout(values))
    prints_paths = _format(values) == "paths"
    if prints_paths and not has_paths:
        raise UsageError("this answer has no paths", hint="choose another format, such as csv")
    if null and not (prints_paths or values.get("source") or _reads_paths(values)):
        ways = ["--format paths"] * has_paths + ["paths from stdin"] * ("null" in values)
        raise UsageError(f"-0 has no effect without {' or '.join(ways)}", hint="leave it out, or give that too")
    files = {option: values[name] for name, option in OUTPUTS.items() if values.get(name) not in (None, "", *STDOUT)}
    _check_different(files, values)
    if files:
        from imgindex.export.targets import check_target

        index = _index(values)
        for option, path in files.items():
            check_target(path, overwrite=overwrite, index=index, sheet=option == OUTPUTS["sheet"])
    for name in FOLDERS:
        if values.get(name):
            from imgindex.export.folders import check_folder

            check_folder(values[name], overwrite=overwrite)


def _use_stdin(values: Values) -> None:
    """Let the option whose file is - read stdin. Raises UsageError if two read it, or if there is no such stdin."""
    if values.get("weights") == STDIN:
        raise UsageError("--weights - is not possible: weights are read more than once", hint="name a file")
    names = [name for name in INPUTS if values.get(name) == STDIN]
    if len(names) + _reads_paths(values) > 1:
        raise UsageError("stdin can be read only once", hint="give - in one place")
    for name in names:
        check_stdin(f"{INPUTS[name]} -")
        values[name] = STDIN_FILE


def _use_stdout(values: Values) -> bool:
    """Let the option whose file is - write to stdout; return whether the answer is then not printed there."""
    names = [name for name in OUTPUTS if values.get(name) in STDOUT]
    if not names:
        return False
    if len(names) > 1:
        both = " and ".join(OUTPUTS[name] for name in names)
        raise UsageError(f"{both} cannot both write to stdout", hint="name a file for one of them")
    if sys.stdout is None:
        raise OSError("stdout is closed")
    asked = values.get("format") is not None or values.get("json")
    if names == ["out"] and "thumbnails" not in values:
        # Answers go to stdout anyway; labels are the answer of --out.
        values["out"] = None
        if "like" in values and not asked:
            values["format"] = options.Format.csv
        return False
    if asked and (names == ["out"] or values.get("out") is None):
        raise UsageError(
            f"{OUTPUTS[names[0]]} - leaves no room on stdout for the answer", hint="leave out --format and --json"
        )
    values[names[0]] = STDOUT_FILE
    return True


def _reads_paths(values: Values) -> bool:
    """Whether paths are read from stdin. Between two images, - is a minus sign."""
    images = _list(values, "images")
    return STDIN in (*_list(values, "paths"), *images[:1], *images[-1:])


def _check_different(files: Mapping[str, str], values: Values) -> None:
    """Raise UsageError if a file is written twice, or is one that the command reads."""
    read = {real_path(absolute(path)): name for name, path in _files_read(values)}
    written: dict[str, str] = {}
    for option, path in files.items():
        real = real_path(absolute(path))
        if real in read:
            raise UsageError(f"{option} would replace {path}, which {read[real]} reads", hint="name another file")
        if real in written:
            raise UsageError(f"{written[real]} and {option} name the same file", hint="name two files")
        written[real] = option


def _files_read(values: Values) -> Iterator[tuple[str, str]]:
    yield from ((option, values[name]) for name, option in INPUTS.items() if values.get(name))
    for name in LISTS:
        yield from (("the command", path) for path in _list(values, name) if path)


def _list(values: Values, name: str) -> list[str]:
    """Return the files that a parameter names; that of `bench` is a number of images."""
    found = values.get(name)
    return list(found) if isinstance(found, (list, tuple)) else []


def _format(values: Values) -> str:
    """Return the format of the answer, as far as it matters whether it is paths."""
    if values.get("json"):
        return "json"
    if values.get("format") is not None:
        return str(values["format"].value)
    return "paths" if (values.get("out") or "").lower().endswith(".txt") else ""


def _index(values: Values) -> str | None:
    with contextlib.suppress(ImgindexError, OSError):
        return options.find_index(values.get("index"))
    return None
