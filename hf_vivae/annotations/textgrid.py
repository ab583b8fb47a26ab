"""TextGrids, the annotations of Praat (https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html)."""

import re
from collections.abc import Iterator
from pathlib import Path

from ..validation import UserError, short_repr
from .parsing import Tier, read_text

# Praat takes texts in quotes, flags, and numbers that stand alone; words, brackets and comments (from ! on) are for
# people, so that the long and the short form are one
TOKEN = re.compile(r'"(?P<text>(?:[^"]|"")*)"|<(?P<flag>\w+)>|!.*|(?P<word>[^\s"=]+)|(?P<open>")')
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_textgrid(file: Path) -> tuple[list[Tier], float]:
    """Return the tiers of a TextGrid in the long or the short form, and the end of its time in seconds.

    praatio's reader is not used, since it leaves out the end of a truncated file without an error, loses the sign of
    times, and refuses numbers such as 1e-05 (6.2.2).

    Raises:
        UserError: for another or a truncated file.
    """
    tokens = _tokens(read_text(file))

    def take(kind: type, what: str):
        token = next(tokens, None)
        if not isinstance(token, kind):
            state = "the end of the file" if token is None else short_repr(token, 40)
            raise UserError(f"{file}: expected a TextGrid with {what}, found {state}; save it again as a text file.")
        return token

    for name, names in (("file type", ("ooTextFile", "ooTextFile short")), ("object class", ("TextGrid",))):
        value = take(str, f"the {name} {names[0]}")
        if value not in names:
            raise UserError(
                f"{file}: expected a TextGrid with the {name} {names[0]}, found {short_repr(value, 40)}; save it "
                "again as a text file."
            )
    take(float, "a start")
    seconds = take(float, "an end")
    tiers = []
    for _ in range(int(take(float, "a number of tiers")) if take(bool, "the flag <exists>") else 0):
        kind, name = take(str, "a class of tier"), take(str, "a name of a tier")
        place = f"tier {name}"
        take(float, f"a start of {place}")
        take(float, f"an end of {place}")
        if kind not in ("IntervalTier", "TextTier"):
            raise UserError(f"{file}: expected an IntervalTier or TextTier, found {short_repr(kind, 40)}; correct it.")
        points = kind == "TextTier"
        intervals = []
        for number in range(1, 1 + int(take(float, f"a number of entries of {place}"))):
            entry = f"{'point' if points else 'interval'} {number} of {place}"
            start = take(float, f"a time of {entry}")
            end = start if points else take(float, f"an end of {entry}")
            text = take(str, f"a text of {entry}").strip()
            if text:
                intervals.append((start, end, text))
        tiers.append(Tier(name, tuple(sorted(intervals)), points=points))
    return tiers, seconds


def _tokens(text: str) -> Iterator[str | float | bool]:
    for match in TOKEN.finditer(text):
        if match["text"] is not None:
            yield match["text"].replace('""', '"')
        elif match["flag"]:
            yield match["flag"] == "exists"
        elif match["word"] and NUMBER.fullmatch(match["word"]):
            yield float(match["word"])
        elif match["open"]:  # a text that does not end
            return
