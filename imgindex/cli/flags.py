"""Shows the parameters that a message of the library names as the flags of the command line."""

from __future__ import annotations

import re

# A parameter as hints write it: `weights=FILE`, `wait=True`, or `size=` alone.
PARAMETER = re.compile("`([a-z_]+)=([^`]*)`")
# Those whose flag has another name.
FLAGS = {"k": "-k", "n": "-n", "path": "--index", "id_kind": "--id"}
WHOLE = {("k", "None"): "-k auto", ("copy", "True"): "--copy-to DIR"}
RANGE = re.compile(r"range\((\d+), (\d+)\)")


def in_flags(text: str) -> str:
    """Return a message with flags instead of parameters.

    >>> in_flags("wait for it with `wait=True`, or give `k=range(2, 41)` and `max_size=9`")
    'wait for it with --wait, or give -k 2..40 and --max-size 9'
    """
    return PARAMETER.sub(lambda found: _flag(found[1], found[2]), text)


def _flag(name: str, value: str) -> str:
    if (name, value) in WHOLE:
        return WHOLE[name, value]
    dashed = name.replace("_", "-")
    if value == "False":
        return f"--no-{dashed}"
    flag = FLAGS.get(name, f"--{dashed}")
    if numbers := RANGE.fullmatch(value):
        value = f"{numbers[1]}..{int(numbers[2]) - 1}"
    return flag if value in ("", "True") else f"{flag} {value}"
