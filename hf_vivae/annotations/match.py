"""Recordings that annotations belong to."""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..validation import UserError, did_you_mean, readable
from .segment import Annotation

# suffixes that a recording's name may end with; the name of an annotation may end after a point of its own, such as
# `session.2`, which is not the stem `session`
MEDIA = {
    ".aac", ".aif", ".aiff", ".au", ".avi", ".caf", ".flac", ".m4a", ".mkv", ".mov", ".mp3", ".mp4", ".mpeg", ".mpg",
    ".oga", ".ogg", ".opus", ".rf64", ".w64", ".wav", ".webm", ".wma",
}  # fmt: skip


def recording_stem(name: str) -> str:
    """Return the name of a recording without the suffix of its format, where it has one."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in MEDIA else name


def match_recordings(annotations: Sequence[Annotation], recordings: Sequence[Path]) -> list[tuple[Path, Annotation]]:
    """Return each annotation with its recording: that of its name, else that of its stem.

    Names are compared in Unicode's composed form (NFC), since macOS decomposes those of files. A name with folders,
    such as `a/interview.wav`, is compared with the end of each path.

    Args:
        annotations: one for each recording.
        recordings: paths of audio files.

    Raises:
        UserError: for a name that fits no or several recordings, and for two annotations of one recording.
    """
    by_name, by_stem = defaultdict(list), defaultdict(list)
    for path in recordings:
        by_name[_composed(path.name)].append(path)
        by_stem[_composed(path.stem)].append(path)
    pairs: dict[Path, Annotation] = {}
    for annotation in annotations:
        name = PurePosixPath(_composed(annotation.recording.replace("\\", "/")))
        folder = "" if name.parent == PurePosixPath() else f"/{name.parent.as_posix().lstrip('/')}"
        fitting: list[Path] = []
        for index, key in ((by_name, name.name), (by_stem, name.name), (by_stem, recording_stem(name.name))):
            fitting = fitting or [
                path for path in index[key] if f"/{_composed(path.parent.as_posix())}".endswith(folder)
            ]
        if len(fitting) != 1:
            names = [readable(path.name) for path in recordings]
            state = (
                f"{len(fitting)}, such as {fitting[0]} and {fitting[1]}"
                if fitting
                else f"none of this name among {len(names)}{did_you_mean(annotation.recording, names)}"
            )
            raise UserError(
                f"expected one recording for the annotation of {annotation.recording}, found {state}; rename or add "
                "it."
            )
        if fitting[0] in pairs:
            raise UserError(f"expected one annotation of {fitting[0]}, found two; remove one.")
        pairs[fitting[0]] = annotation
    return list(pairs.items())


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
