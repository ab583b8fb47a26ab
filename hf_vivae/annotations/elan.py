"""EAF, the annotations of ELAN (https://www.mpi.nl/tools/elan/EAF_Annotation_Format_3.0_and_ELAN.pdf)."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from ..validation import UserError
from .parsing import Tier, check_library, read_text

if TYPE_CHECKING:
    import pympi


def read_eaf(file: Path) -> tuple[list[Tier], str | None]:
    """Return the tiers of an EAF file and the name of its recording, None where it names none.

    Tiers of symbolic associations have the times of the annotations that they refer to. A schema above 3.0, the last
    one that pympi knows, is read as long as times and annotations are where they were.

    Raises:
        UserError: for another or a truncated file, and for a schema that differs in times and annotations.
    """
    check_library("pympi", file)
    import pympi

    try:
        root = ElementTree.fromstring(read_text(file))
    except ElementTree.ParseError as error:
        raise UserError(f"{file}: expected the XML of ELAN, found other text ({error}); save it again.") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise UserError(f"{file}: expected an ANNOTATION_DOCUMENT of ELAN, found {root.tag}; give another file.")
    tiers, recording, origin = [], None, 0
    try:
        # pympi raises a bare Exception for what is no XML, which is excluded here, and takes attributes for given
        eaf = pympi.Eaf(str(file), suppress_version_warning=True)
        for media in sorted(eaf.media_descriptors, key=lambda media: not media["MIME_TYPE"].startswith("audio"))[:1]:
            recording = PurePosixPath(unquote(urlsplit(media["MEDIA_URL"].replace("\\", "/")).path)).name
            origin = int(media.get("TIME_ORIGIN") or 0)  # ms of the recording at which the time of the tiers begins
        for name, (aligned, references, attributes, _) in eaf.tiers.items():
            texts = {key: entry[2] for key, entry in aligned.items()} | {
                key: entry[1] for key, entry in references.items()
            }
            entries = [(*_slots(eaf, key), text.strip()) for key, text in texts.items() if text.strip()]
            intervals = sorted(
                ((start + origin) / 1000, (end + origin) / 1000, text)
                for start, end, text in entries
                if start is not None and end is not None
            )
            unaligned = len(entries) - len(intervals)
            tiers.append(Tier(name, tuple(intervals), attributes.get("PARTICIPANT") or None, unaligned=unaligned))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        version = root.get("VERSION") or root.get("FORMAT") or "unknown"
        raise UserError(
            f"{file}: expected an EAF file of schema 2.7 to 3.0, found one of schema {version} that lacks a part of "
            f"these ({type(error).__name__}: {error}); save it in ELAN as schema 3.0."
        ) from error
    return tiers, recording


def _slots(eaf: "pympi.Eaf", key: str) -> tuple[int | None, int | None]:
    """Return the times in ms of an annotation, or of the one that it refers to, over any number of tiers.

    pympi's own search ends with a KeyError where an aligned tier has a parent (1.71).
    """
    for _ in range(1 + len(eaf.tiers)):  # references of a damaged file may go round
        aligned, references = eaf.tiers[eaf.annotations[key]][:2]
        if key in aligned:
            return eaf.timeslots[aligned[key][0]], eaf.timeslots[aligned[key][1]]
        key = references[key][0]
    raise KeyError(key)
