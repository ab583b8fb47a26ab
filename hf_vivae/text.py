"""Text that strangers chose, such as names of files and labels, made fit for terminals, spreadsheets and Unicode."""

import re
import unicodedata
from typing import Any

SURROGATE = re.compile("[\ud800-\udfff]")  # stands for a byte of a file's name that is no UTF-8
JOINERS = "\u200c\u200d"  # without width: Persian and emoji are spelt with them, and they do nothing else
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


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


def csv_cell(cell: Any) -> Any:
    """A cell of a CSV file that no spreadsheet takes for a formula: text that begins like one gets an apostrophe.

    Args:
        cell: numbers stay as they are, and so does text that is a number.
    """
    if not isinstance(cell, str) or not cell.startswith(FORMULA_STARTS) or _is_number(cell):
        return cell
    return f"'{cell}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
