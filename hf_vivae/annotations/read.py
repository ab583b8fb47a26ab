"""Annotations of the formats that people and programs label recordings in."""

from pathlib import Path

from ..validation import UserError
from .elan import read_eaf
from .parsing import segments_of_tiers
from .segment import Annotation
from .tables import read_lines, read_rttm, read_table
from .textgrid import read_textgrid

READABLE = (".TextGrid", ".eaf", ".rttm", ".csv", ".tsv", ".txt")
LINES = {".csv": read_table, ".tsv": read_table, ".txt": read_lines, ".rttm": read_rttm}


def read_annotations(file: Path, tier: str | None = None, speaker_tier: str | None = None) -> list[Annotation]:
    """Return the annotations of a file, one for each recording that it names.

    Args:
        file: of a suffix of `READABLE`, in any case of letters; .txt is Audacity's labels or a selection table of
            Raven. Text is UTF-8, or UTF-16 with a byte order mark.
        tier: of the labels, in tables the column; by default the tier `labels` or the only one with text, and the
            column `label`. Tiers `NAME@speaker` are one with those of the other speakers.
        speaker_tier: whose interval around the middle of a segment names its speaker, in tables the column; by default
            the participant of the tier or the name after its @, and the column `speaker`.

    Raises:
        UserError: with the file for each that is damaged, for tiers and columns that are not there, and for times that
            run backwards or, within a tier, overlap.
    """
    suffix = file.suffix.lower()
    if suffix in LINES:
        return LINES[suffix](file, tier, speaker_tier)
    if suffix == ".textgrid":
        tiers, seconds = read_textgrid(file)
        recording = file.stem
    elif suffix == ".eaf":
        (tiers, recording), seconds = read_eaf(file), None
    else:
        raise UserError(f"expected an annotation as {', '.join(READABLE)}, found {file}; give one of them.")
    return [Annotation(recording or file.stem, segments_of_tiers(tiers, file, tier, speaker_tier), seconds)]
