"""The paths of members: the path of the archive, a slash, and the name of the member, which is never a path on disk."""

from __future__ import annotations

import os
import re

from imgindex.sources.selection import ARCHIVE_ENDINGS

_ENDING = "|".join(re.escape(ending) for ending in sorted(ARCHIVE_ENDINGS, key=len, reverse=True))
_IN_ARCHIVE = re.compile(f"(?:{_ENDING})(?=/)", re.IGNORECASE).finditer
# Written instead of what would lead out of the archive, or end the name.
PARENT, NUL = "%2E%2E", "%00"


def split(path: str) -> tuple[str, str] | None:
    """Return the archive and the name in it that an absolute path leads to; None if no archive is on the way.

    Only a file can be an archive: a folder may have such a name too.
    """
    for found in _IN_ARCHIVE(path):
        if os.path.isfile(path[: found.end()]):
            return path[: found.end()], path[found.end() + 1 :]
    return None


def member_path(name: str) -> str:
    """Return the path below its archive of a member with this name, "" for none; it never leads out of the archive.

    >>> member_path("./cat//1.jpg"), member_path("/etc/../x")
    ('cat/1.jpg', 'etc/%2E%2E/x')
    """
    if "/." not in name and "//" not in name and name[:1] not in "./" and "\0" not in name:
        return name
    parts = [PARENT if part == ".." else part for part in name.split("/") if part not in ("", ".")]
    return "/".join(parts).replace("\0", NUL)
