"""`UserError`, the exception of a user's mistakes, with checks and text functions for its messages."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any, NoReturn


class UserError(ValueError):
    """An input, setting, file or machine that cannot be used.

    The message states what was expected, what was found and what to do; scripts and commands print it alone. Every
    other exception is a defect, and keeps its traceback.
    """


class Arguments:
    """Base class of dataclasses of arguments, which are combined by inheritance.

    Each checks its own fields in `__post_init__` and calls that of the next by `super()`; the chain ends here.
    """

    def __post_init__(self) -> None:
        """End the chain."""

    def changed(self) -> list[str]:
        """Return the names of the fields whose values are not their defaults."""
        defaults = {
            entry.name: entry.default if entry.default_factory is MISSING else entry.default_factory()
            for entry in fields(self)
        }
        return [name for name, default in defaults.items() if getattr(self, name) != default]


SURROGATE = re.compile("[\ud800-\udfff]")  # in place of a byte of a file's name that is not UTF-8
JOINERS = "\u200c\u200d"  # zero-width characters without other effects, which Persian and emoji need


def readable(text: str) -> str:
    r"""Return text that can be encoded: bytes of a name that are not UTF-8 as `\xe9`, the rest unchanged."""
    return SURROGATE.sub(lambda match: _escape(match[0]), text)


def printable(text: str) -> str:
    r"""Return text as one line without effects on a terminal: control characters as `\x1b`; it is also `readable`."""
    return "".join(
        character
        if character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"
        else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else character.encode("unicode_escape").decode()


def short_repr(value: Any, limit: int = 120) -> str:
    """Return `repr(value)`, cut to a number of characters: settings may be lists of thousands of files."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def first_names(names: Sequence[str], limit: int = 10) -> str:
    """Return the first names of a list, and the number of the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a name that is not among the choices.

    Raises:
        UserError: with all choices, and the nearest where one is near.
    """
    choices = list(choices)
    if value not in choices:
        hint = did_you_mean(value, choices)
        raise UserError(f"expected {what} to be one of {', '.join(choices)}, found {value!r}{hint}.")


def did_you_mean(name: str, choices: Iterable[str], prefix: str = "") -> str:
    """Return " (did you mean x?)" with the nearest of the choices for a message; empty where none is near."""
    close = get_close_matches(name, list(choices), 1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


def json_object(value: str | dict[str, Any], source: str) -> dict[str, Any]:
    """Return a dictionary, as it is or from JSON text.

    Args:
        value: the dictionary or text.
        source: of the value, for messages.

    Raises:
        UserError: for text that is not a JSON object; NaN and Infinity are not JSON.
    """

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a number in JSON")

    if isinstance(value, str):
        try:
            value = json.loads(value, parse_constant=refuse)
        except (ValueError, RecursionError) as error:  # the latter for deeply nested brackets
            raise UserError(f"expected JSON in {source}, found {value[:40]!r} ({error}); correct it.") from error
    if not isinstance(value, dict):
        raise UserError(f"expected a JSON object in {source}, found {type(value).__name__}; correct it.")
    return value
