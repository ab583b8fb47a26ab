"""`UserError`, the exception of a user's mistakes, and the checks and text helpers that its messages share."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NoReturn


class UserError(ValueError):
    """An input, setting, file or machine that cannot be used.

    The message says what was expected, what was found and what to do; scripts and commands print it alone. Every other
    exception is a defect, and keeps its traceback.
    """


class Arguments:
    """Base class of dataclasses of arguments, which are combined by inheritance.

    Each checks its own fields in `__post_init__` and calls that of the next by `super()`; the chain ends here.
    """

    def __post_init__(self) -> None:
        """End the chain."""


SURROGATE = re.compile("[\ud800-\udfff]")  # stands for a byte of a file's name that is no UTF-8
JOINERS = "\u200c\u200d"  # without width: Persian and emoji are spelt with them, and they do nothing else


def readable(text: str) -> str:
    r"""Text that can be encoded: bytes of a name that are no UTF-8 as `\xe9`, all else as it is."""
    return SURROGATE.sub(lambda match: _escape(match[0]), text)


def printable(text: str) -> str:
    r"""Text as one line that does nothing to a terminal: control characters as `\x1b`, which is also `readable`."""
    return "".join(character if _is_shown(character) else _escape(character) for character in text)


def _is_shown(character: str) -> bool:
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else character.encode("unicode_escape").decode()


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a name that is not among the choices.

    Raises:
        ValueError: naming the nearest choice, where one is near, and all of them.
    """
    choices = list(choices)
    if value not in choices:
        near = difflib.get_close_matches(value, choices, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(f"expected {what} to be one of {', '.join(choices)}, found {value!r}{hint}.")


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The nearest of the known names in brackets, for the middle of a sentence; empty where none is near."""
    close = get_close_matches(name, list(known), 1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


def json_object(value: str | dict[str, Any], source: str) -> dict[str, Any]:
    """A dictionary, as it is or from JSON text.

    Raises:
        ValueError: for text that is no JSON object, naming its source; NaN and Infinity are no JSON.
    """

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is no number of JSON")

    if isinstance(value, str):
        try:
            value = json.loads(value, parse_constant=refuse)
        except (ValueError, RecursionError) as error:  # of brackets in brackets
            raise UserError(f"expected JSON in {source}, found {value[:40]!r} ({error}); correct it.") from error
    if not isinstance(value, dict):
        raise UserError(f"expected a JSON object in {source}, found {type(value).__name__}; correct it.")
    return value
