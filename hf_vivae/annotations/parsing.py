"""Text, numbers and tiers of annotation files, with one sentence for each that is damaged."""

import codecs
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..validation import UserError, did_you_mean, short_repr
from .segment import Segment

LABELS, SCORES = "labels", "scores"  # names of the tiers that are written
BOUNDARY = 1e-6  # seconds by which intervals of a tier may overlap, since tools round their times


@dataclass(frozen=True)
class Tier:
    """A tier of a TextGrid or an EAF file.

    Args:
        name: of the tier; that of one speaker of several ends in `@speaker`, as ELAN names them.
        intervals: start and end in seconds and text, in the order of their starts; empty texts are left out.
        speaker: the participant, where the format has a field for it.
        points: the tier has points in time in place of intervals.
        unaligned: number of annotations without times of their own, which ELAN's subdivisions may have.
    """

    name: str
    intervals: tuple[tuple[float, float, str], ...]
    speaker: str | None = None
    points: bool = False
    unaligned: int = 0

    @property
    def base(self) -> str:
        """Return the name without `@speaker`."""
        return self.name.partition("@")[0]


def check_library(module: str, file: Path) -> None:
    """Refuse a format whose library, of the extra `annotation`, is not installed.

    Raises:
        UserError: with the command that installs it.
    """
    if find_spec(module) is None:
        raise UserError(
            f"expected {module}, which {file.suffix} files need, found none; pip install 'hf_vivae[annotation]'."
        )


def read_text(file: Path) -> str:
    r"""Return the text of an annotation file, with `\n` as the end of each line.

    Args:
        file: in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        UserError: for a file that cannot be read, is empty, or is not such text.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"expected an annotation file, found {file} ({error.strerror}); give another.") from error
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
        if "\0" in text:
            raise UnicodeDecodeError(encoding, data, data.index(0), data.index(0) + 1, "a zero byte")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: expected text in UTF-8, or in UTF-16 with a byte order mark, found other bytes "
            f"({error.reason}); save it as text in UTF-8."
        ) from error
    if not text.strip():
        raise UserError(f"{file}: expected an annotation, found an empty file; write it again.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_number(text: str | None, file: Path, place: str) -> float:
    """Return a finite number of a file.

    Args:
        text: of the number; None where the file has none.
        file: for the message.
        place: in the file, for the message.

    Raises:
        UserError: for other text, such as a number with a decimal comma.
    """
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{file}: expected a number as {place}, found {short_repr(text or '')}; correct it.")
    return number


def check_times(start: float, end: float, file: Path, place: str) -> None:
    """Refuse a segment that begins before the recording or does not end after its start.

    Raises:
        UserError: with the file, the place and both times.
    """
    if not 0 <= start < end:
        raise UserError(
            f"{file}: expected times from 0 on and an end after the start, found {start:g} to {end:g} s in {place}; "
            "correct it."
        )


def segments_of_tiers(
    tiers: Sequence[Tier], file: Path, name: str | None, speaker_name: str | None
) -> tuple[Segment, ...]:
    """Return the segments of the tier of labels, or of one such tier for each speaker.

    Args:
        tiers: of the file.
        file: for messages.
        name: of the tier of labels, without `@speaker`; by default `labels`, else the only one that has text.
        speaker_name: of the tier whose interval around the middle of a segment names the speaker; by default the
            tier's participant, else the name after `@`.

    Raises:
        UserError: for a name that is not there or not that of one tier of intervals, for several tiers that could be
            that of the labels, for intervals that overlap, run backwards or have no times, and for scores that are
            no numbers.
    """
    segments = []
    speakers = _find_tier(tiers, file, speaker_name).intervals if speaker_name is not None else None
    for tier in _label_tiers(tiers, file, name, speaker_name):
        suffix = tier.name[len(tier.base) :]
        scores = next((other.intervals for other in tiers if other.name == SCORES + suffix), ())
        for start, end, label in tier.intervals:
            middle = (start + end) / 2
            score = _text_at(scores, middle)
            segments.append(
                Segment(
                    start,
                    end,
                    label,
                    None if score is None else parse_number(score, file, f"score at {middle:g} s"),
                    (tier.speaker or suffix[1:] or None) if speakers is None else _text_at(speakers, middle),
                )
            )
    return tuple(sorted(segments, key=lambda segment: (segment.start, segment.end)))


def _label_tiers(tiers: Sequence[Tier], file: Path, name: str | None, speaker_name: str | None) -> list[Tier]:
    names = [tier.name for tier in tiers if (name or LABELS) in (tier.name, tier.base)]
    if name is None and not names:
        names = [
            tier.name
            for tier in tiers
            if (tier.intervals or tier.unaligned) and not tier.points and tier.name != speaker_name
        ]
        if len(names) != 1:
            state = ", ".join(names or [f"{tier.name}, which has none" for tier in tiers]) or "no tiers"
            raise UserError(
                f"{file}: expected one tier of intervals with text, or one of the name {LABELS}, found {state}; name "
                "that of the labels with --tier."
            )
    return [_find_tier(tiers, file, label_name) for label_name in names or [name]]


def _find_tier(tiers: Sequence[Tier], file: Path, name: str) -> Tier:
    names = [tier.name for tier in tiers]
    if names.count(name) != 1:
        state = f"{names.count(name)} of this name among " if name in names else ""
        raise UserError(
            f"{file}: expected one tier of the name {name}, found {state}{', '.join(names) or 'no tiers'}"
            f"{'' if name in names else did_you_mean(name, names)}; name another or rename it."
        )
    tier = tiers[names.index(name)]
    if tier.points:
        raise UserError(f"{file}: expected a tier of intervals, found points in tier {name}; name another.")
    if tier.unaligned:
        raise UserError(
            f"{file}: expected times for each annotation of tier {name}, found none for {tier.unaligned}; align them, "
            "or name another tier."
        )
    end = 0.0
    for start, next_end, text in tier.intervals:
        check_times(start, next_end, file, f"{short_repr(text, 40)} of tier {name}")
        if start < end - BOUNDARY:
            raise UserError(
                f"{file}: expected intervals that do not overlap, found one from {start:g} s in tier {name}, where "
                f"another ends at {end:g} s; correct it."
            )
        end = next_end
    return tier


def _text_at(intervals: Sequence[tuple[float, float, str]], seconds: float) -> str | None:
    position = bisect_right(intervals, seconds, key=lambda interval: interval[0]) - 1
    return intervals[position][2] if position >= 0 and seconds < intervals[position][1] else None
