"""The members of archives as a source: an archive behaves like a folder.

An archive is listed once while its file does not change, and its members are read by their positions. A file is opened
for each read, so an archive may be deleted or replaced at any time.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgindex.errors import SourceUnavailable, UnreadableImage
from imgindex.sources.archives import webdataset
from imgindex.sources.archives import zip as zips
from imgindex.sources.archives.members import ArchiveDamaged, ListGone, Member, Members
from imgindex.sources.archives.names import split
from imgindex.sources.base import MAX_BYTES, Content, FileHash, Found, ReadPart, megabytes, numbers
from imgindex.sources.selection import NameRules, Selection
from imgindex.sources.signature import HEAD
from imgindex.types import Failure, FoundFile

if TYPE_CHECKING:
    from imgindex.sources.archives.tar import Unpacker

# Members of an archive that are listed as unreadable one by one; those that follow are one failure of the archive.
MOST_PROBLEMS = 1000
NOT_IN_ARCHIVE = "the archive has no such member any more"

Numbers = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Listing:
    """An archive as it was listed: the numbers of its file, its list in `Members`, and how it is compressed.

    kind: zip, tar, or the compression of a tar. problem: why the list is incomplete, else "". end: where the last
    member ends, in the unpacked tar. has_descriptions: whether any member may describe a picture.
    """

    numbers: Numbers
    list: int
    kind: str
    problem: str = ""
    end: int = 0
    has_descriptions: bool = False

    @property
    def ctime_ns(self) -> int | None:
        """What shows that a tar was rewritten; a zip has checksums of its members for that."""
        return None if self.kind == "zip" else self.numbers[4]

    @property
    def is_compressed(self) -> bool:
        return self.kind not in {"zip", "tar"}

    @property
    def is_trusted(self) -> bool:
        """Whether its members may be read: any member of a damaged compressed tar may have the damage."""
        return not (self.is_compressed and self.problem)


@dataclass(slots=True)
class _Problems:
    """The unreadable members of one search: how many there were, and the reason of the last one."""

    count: int = 0
    further: int = 0
    reason: str = ""

    def is_one_more(self, reason: str) -> bool:
        """Count a problem, and return whether it is still named by itself."""
        self.count += 1
        if self.count > MOST_PROBLEMS:
            self.further, self.reason = self.further + 1, reason
        return self.count <= MOST_PROBLEMS


class ArchiveSource:
    """The members of zip and tar archives."""

    where, is_far = "in an archive", False

    def __init__(self) -> None:
        self._members: Members | None = None
        self._listings: dict[str, Listing] = {}
        # While an archive is listed, others that need the list wait for it.
        self._listing_lock = threading.Lock()
        self._unpacker_lock = threading.Lock()
        self._unpacker: tuple[str, Numbers, Unpacker] | None = None

    # Finding.

    def find(self, roots: Iterable[str], selection: Selection) -> Iterator[Found]:
        """Yield the images at and below archives, folders in them, and members, in the order of each archive.

        An archive that cannot be listed to its end is a Failure, behind the members that could be listed; a compressed
        tar is one without them.
        """
        searched: set[str] = set()
        # What contains another root comes before it.
        for root in sorted(roots, key=len):
            if not _is_covered(root, searched):
                searched.add(root)
                yield from self._below(root, selection)

    def _below(self, root: str, selection: Selection) -> Iterator[Found]:
        archive, below = split(root) or (root, "")
        try:
            listing = self._listing(archive)
        except OSError as error:
            yield Failure(archive, "find", f"cannot read: {error.strerror}")
            return
        try:
            yield from self._members_below(archive, below, listing, selection)
        except ListGone as error:
            yield _failure(archive, listing, str(error))
        if listing.problem:
            yield _failure(archive, listing, listing.problem)

    def _members_below(self, archive: str, below: str, listing: Listing, selection: Selection) -> Iterator[Found]:
        problems, rules = _Problems(), NameRules(selection)
        for member in self._list().each(listing.list) if listing.is_trusted else ():
            if below and member.path == below:
                relative, is_root = os.path.basename(below), True
            elif not below or member.path.startswith(f"{below}/"):
                relative, is_root = member.path[len(below) + 1 :] if below else member.path, False
            else:
                continue
            kind = FoundFile if is_root else rules.kind(relative)
            if kind is None or (member.problem and not problems.is_one_more(member.problem)):
                continue
            yield _found(kind, archive, listing, member)
        if problems.further:
            reason = f"{problems.further:,} further members cannot be read; the last one: {problems.reason}"
            yield _failure(archive, listing, reason)

    def check(self, root: str) -> None:
        """Raise FileNotFoundError unless a root is an archive, or a folder or member that it has."""
        archive, below = split(root) or (root, "")
        listing = self._listing(archive)
        if below and not listing.problem:
            members = self._list()
            if not members.known(listing.list, [below]) and not members.has_folder(listing.list, below):
                raise FileNotFoundError(2, f"the archive {os.path.basename(archive)} has nothing of this name", root)

    def look(self, path: str) -> FoundFile | None:
        """Return a member as the archive lists it now; None where it cannot be found."""
        try:
            archive, listing, member, _ = self._find(path)
        except (UnreadableImage, SourceUnavailable, OSError):
            return None
        return _found(FoundFile, archive, listing, member)

    def gone(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield the paths that a complete list of their archive lacks."""
        of_archive: dict[str, dict[str, str]] = {}
        for path in paths:
            place = split(path)
            if place is None:
                yield path  # its archive is gone
            else:
                of_archive.setdefault(place[0], {})[place[1]] = path
        for archive, names in of_archive.items():
            try:
                listing = self._listing(archive)
                known = self._list().known(listing.list, list(names))
            except (OSError, ListGone):
                continue
            if not listing.problem:
                yield from (path for name, path in names.items() if name not in known)

    # Reading.

    def read(self, path: str, *, max_bytes: int = MAX_BYTES) -> Content:
        """Return the bytes of a member. Raises UnreadableImage; SourceUnavailable where its archive is gone."""
        _, listing, member, _ = self._find(path)
        if member.problem:
            raise UnreadableImage(member.problem, stage="read")
        if member.size > max_bytes:
            raise UnreadableImage(
                f"the file has {megabytes(member.size)}, more than the limit of {megabytes(max_bytes)}", stage="read"
            )
        try:
            data = self._read(path, listing, member, None)
            metadata = self._metadata(path, listing, member) if listing.has_descriptions else None
        except ListGone as error:
            raise UnreadableImage(str(error), stage="read") from error
        sha256 = hashlib.sha256(data).digest()
        return Content(data, sha256, member.size, member.mtime_ns, listing.ctime_ns, None, member.version, metadata)

    def _metadata(self, path: str, listing: Listing, picture: Member) -> dict[str, webdataset.Value] | None:
        """Return what other members say of a picture; None where there are none."""
        texts: dict[str, bytes] = {}
        for kind, name in webdataset.descriptions(picture.path).items():
            found = self._list().find(listing.list, name)
            if found and not found[1].problem and webdataset.is_description(name, found[1].size):
                member = found[1]
                texts[kind] = member.data if member.data is not None else self._read(path, listing, member, None)
        return webdataset.metadata(texts) if texts else None

    def read_head(self, path: str) -> bytes | None:
        """Return the first bytes of a member; None if it cannot be read."""
        try:
            _, listing, member, _ = self._find(path)
            if member.problem:
                return None
            return member.data if member.data is not None else self._read(path, listing, member, HEAD)
        except (UnreadableImage, OSError):
            return None

    def hash(self, path: str) -> FileHash:
        """Return the SHA-256 of a member, with numbers that no other file has."""
        content = self.read(path)
        _, listing, _, number = self._find(path)
        return FileHash(content.sha256, -listing.list, number, content.size, content.mtime_ns, -1)

    def is_unchanged(self, path: str, read: FileHash) -> bool:
        """Return whether a member is still the one that was hashed: its archive has not changed since."""
        try:
            _, listing, _, number = self._find(path)
        except UnreadableImage:
            return False
        return (read.device, read.inode) == (-listing.list, number)

    @contextmanager
    def parts(self, path: str) -> Iterator[ReadPart]:
        """Lend a function that returns the bytes of a member at an offset."""
        data = self.read(path).data
        yield lambda offset, length: data[offset : offset + length]

    def is_folder(self, path: str) -> bool:
        """Return whether an archive has a folder at a path."""
        archive, below = split(path) or (path, "")
        try:
            return self._list().has_folder(self._listing(archive).list, below)
        except (OSError, ListGone):
            return False

    def is_sequential(self, path: str) -> bool:
        """Return whether a path lies in a compressed tar: reading one of its members unpacks those before it."""
        try:
            return self._listing((split(path) or (path, ""))[0]).is_compressed
        except OSError:
            return False

    def _read(self, path: str, listing: Listing, member: Member, most: int | None) -> bytes:
        # Imported late: a run without tars needs none of their libraries.
        from imgindex.sources.archives.tar import Plain

        archive = (split(path) or (path, ""))[0]
        try:
            if listing.is_compressed:
                return self._unpack(archive, listing, member, most)
            with _opened(archive) as descriptor:
                if listing.kind == "zip":
                    data = zips.read_member(descriptor, member, most=most)
                else:
                    length = member.size if most is None else min(most, member.size)
                    data = Plain(descriptor).at(member.offset, length)
                if numbers(os.fstat(descriptor)) != listing.numbers:
                    raise UnreadableImage(str(ListGone()), stage="read")
        except OSError as error:
            raise UnreadableImage(error.strerror or str(error), stage="read") from error
        if most is None and len(data) != member.size:
            raise UnreadableImage(str(ListGone()), stage="read")
        return data

    def _unpack(self, archive: str, listing: Listing, member: Member, most: int | None) -> bytes:
        from imgindex.sources.archives.tar import Unpacker

        length = member.size if most is None else min(most, member.size)
        with self._unpacker_lock:
            if self._unpacker is None or self._unpacker[:2] != (archive, listing.numbers):
                if self._unpacker is not None:
                    self._unpacker[2].close()
                self._unpacker = (archive, listing.numbers, Unpacker(archive, listing.kind))
            unpacker = self._unpacker[2]
            try:
                data = unpacker.at(member.offset, length)
                if numbers(unpacker.info()) != listing.numbers or len(data) != length:
                    raise UnreadableImage(str(ListGone()), stage="read")
            except ArchiveDamaged as error:
                self._forget_unpacker()
                raise UnreadableImage(str(error), stage="read") from error
            except UnreadableImage:
                self._forget_unpacker()
                raise
            # The file is not kept open behind the last member.
            if unpacker.position >= listing.end:
                self._forget_unpacker()
            return data

    def _forget_unpacker(self) -> None:
        if self._unpacker is not None:
            self._unpacker[2].close()
            self._unpacker = None

    # Listing.

    def _find(self, path: str) -> tuple[str, Listing, Member, int]:
        """Return archive, list, member and the member's number. Raises UnreadableImage, SourceUnavailable."""
        place = split(path)
        if place is None:
            raise UnreadableImage("No such file or directory", stage="read")
        archive, name = place
        try:
            listing = self._listing(archive)
        except OSError as error:
            raise SourceUnavailable(f"cannot read {archive}: {error.strerror}") from error
        try:
            found = self._list().find(listing.list, name)
        except ListGone as error:
            raise UnreadableImage(str(error), stage="read") from error
        if found is None or not listing.is_trusted:
            raise UnreadableImage(listing.problem or NOT_IN_ARCHIVE, stage="read")
        return archive, listing, found[1], found[0]

    def forget(self, archive: str) -> None:
        """Free what is kept of an archive; it is listed again when it is needed."""
        with self._unpacker_lock:
            self._forget_unpacker()
        with self._listing_lock:
            if (listing := self._listings.pop(archive, None)) is not None:
                self._list().delete(listing.list)

    def _list(self) -> Members:
        if self._members is None:
            self._members = Members()
        return self._members

    def _listing(self, archive: str) -> Listing:
        """Return the list of an archive, made anew if its file has changed. Raises OSError."""
        known = self._listings.get(archive)
        if known is not None and known.numbers == numbers(os.stat(archive)):
            return known
        with self._listing_lock:
            known = self._listings.get(archive)
            if known is not None:
                if known.numbers == numbers(os.stat(archive)):
                    return known
                self._list().delete(known.list)
            listing = _list_archive(archive, self._list())
            self._listings[archive] = listing
            return listing


def _is_covered(root: str, searched: set[str]) -> bool:
    """Return whether a root, or a folder that contains it, was searched."""
    while root:
        if root in searched:
            return True
        root = root[: root.rfind("/")] if "/" in root else ""
    return False


def _found(kind: type[FoundFile], archive: str, listing: Listing, member: Member) -> FoundFile:
    version = f"{member.version}; {member.problem}" if member.problem else member.version
    return kind(f"{archive}/{member.path}", member.size, member.mtime_ns, listing.ctime_ns, None, version)


def _failure(archive: str, listing: Listing, reason: str) -> Failure:
    _, inode, size, mtime_ns, ctime_ns = listing.numbers
    return Failure(archive, "find", reason, size, mtime_ns, ctime_ns=ctime_ns, inode=inode)


@contextmanager
def _opened(archive: str) -> Iterator[int]:
    """Lend a descriptor of an archive that was listed. Raises SourceUnavailable where it cannot be opened now."""
    try:
        with _descriptor(archive) as descriptor:
            yield descriptor
    except FileNotFoundError as error:
        raise SourceUnavailable(f"cannot read {archive}: {error.strerror}") from error


@contextmanager
def _descriptor(archive: str) -> Iterator[int]:
    descriptor = os.open(archive, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Listed:
    """The members of an archive on their way to its list; what was learnt of them on the way."""

    def __init__(self, members: Iterator[Member]) -> None:
        self._members = members
        self.problem = ""
        # Where the last member ends; whether the members of a zip lie one behind the other.
        self.end, self.in_order = 0, True
        self.has_descriptions = False

    def __iter__(self) -> Iterator[Member]:
        try:
            for member in self._members:
                if member.offset < self.end:
                    self.in_order = False
                end = zips.end(member) if member.raw_name else member.offset + member.size
                self.end = max(self.end, end)
                if webdataset.is_description(member.path, member.size):
                    self.has_descriptions = True
                yield member
        except ArchiveDamaged as error:
            self.problem = str(error)


def _list_archive(archive: str, members: Members) -> Listing:
    """List an archive. Raises OSError where its file cannot be read."""
    from imgindex.sources.archives import tar

    with _descriptor(archive) as descriptor:
        before = numbers(os.fstat(descriptor))
        head = os.pread(descriptor, HEAD, 0)
        is_zip = archive.lower().endswith(".zip") or head.startswith(zips.MEMBER)
        kind = "zip" if is_zip else tar.compression(head) or "tar"
        list_ = members.new_list()
        if kind == "zip":
            listed = _Listed(zips.each_member(descriptor))
            members.extend(list_, listed)
            with suppress(ArchiveDamaged):
                directory = zips.directory(descriptor)[0]
                if not listed.in_order or listed.end > directory:
                    members.mark_overlaps(list_, directory)
        elif kind == "tar":
            listed = _Listed(tar.each_member(tar.Plain(descriptor), before[2]))
            members.extend(list_, listed)
        else:
            with closing(tar.Unpacker(archive, kind)) as unpacker:
                listed = _Listed(tar.each_member(unpacker, None))
                members.extend(list_, listed)
                try:
                    unpacker.check_to_the_end()
                except ArchiveDamaged as error:
                    listed.problem = str(error)  # the cause of a damaged header too
        problem = listed.problem
        if numbers(os.fstat(descriptor)) != before:
            problem = str(ListGone())
    return Listing(before, list_, kind, problem, listed.end, kind != "zip" and listed.has_descriptions)
