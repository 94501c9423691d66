"""Checks the types of arguments against the annotations of a public method, so that a mistake is explained by its name.

What is annotated as a path, an image or an array is checked where it is read: several types are accepted there.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import operator
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from imgindex.errors import UsageError

Class = TypeVar("Class", bound=type)


def checked(kind: Class) -> Class:
    """Let the public methods of a class check the types of their arguments, and raise UsageError for a wrong one."""
    for name, member in list(vars(kind).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, types.FunctionType):
            setattr(kind, name, _checking(member))
        elif isinstance(member, classmethod):
            setattr(kind, name, classmethod(_checking(member.__func__)))
    return kind


def _checking(method: Callable[..., Any]) -> Callable[..., Any]:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    by_place = [one.name for one in parameters if one.kind is not inspect.Parameter.KEYWORD_ONLY]
    annotations = {one.name: _parts(str(one.annotation)) for one in parameters}

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        names = method.__globals__
        given = [
            _check(name, value, annotations[name], names) for name, value in zip(by_place, arguments, strict=False)
        ]
        for name, value in named.items():
            if name in annotations:
                named[name] = _check(name, value, annotations[name], names)
        return method(self, *given, *arguments[len(given) :], **named)

    return call


def _parts(annotation: str) -> list[str]:
    """Return the types that an annotation names, without what is between brackets, except of a function."""
    if annotation.startswith("Callable"):
        return [annotation.partition(" | ")[0], *(["None"] if annotation.endswith("None") else [])]
    while (shorter := re.sub(r"\[[^\[\]]*\]", "", annotation)) != annotation:
        annotation = shorter
    return annotation.split(" | ")


def _check(name: str, value: Any, parts: list[str], names: Mapping[str, Any]) -> Any:
    """Return a value, an integer or a number of another library as Python's own.

    parts: the types that its annotation names; names: what they mean. Raises UsageError for a value of another type.
    """
    accepted = []
    for part in parts:
        if part == "None":
            if value is None:
                return value
            continue
        check = _CHECKS.get(part) or _instance(names.get(part, getattr(_builtins, part, None)))
        if check is None:
            return value
        accepted.append(check[0])
        try:
            return check[1](value)
        except TypeError:
            pass
    raise UsageError(f"{name} must be {' or '.join(dict.fromkeys(accepted))}, not {value!r:.80}")


def _instance(kind: Any) -> tuple[str, Callable[[Any], Any]] | None:
    """Return how a value of a class is checked; None for anything else, and for a protocol."""
    if not isinstance(kind, type) or kind is Any or getattr(kind, "_is_protocol", False):
        return None

    def check(value: Any) -> Any:
        # A text is a sequence of texts, but never what is meant.
        if not isinstance(value, kind) or (isinstance(value, str) and kind is not str):
            raise TypeError
        return value

    noun = {"Sequence": "list"}.get(kind.__name__, kind.__name__)
    noun = noun.lower() if kind.__module__ in ("collections.abc", "builtins") else noun
    return f"{'an' if noun[0] in 'AEIOUaeiou' else 'a'} {noun}", check


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _function(value: Any) -> Any:
    if not callable(value):
        raise TypeError
    return value


_builtins = types.SimpleNamespace(range=range)
_CHECKS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "int": ("a whole number", _whole),
    "float": ("a number", _number),
    "str": ("text", _text),
    "OnProgress": ("a function", _function),
    "Callable[[], bool]": ("a function", _function),
}
