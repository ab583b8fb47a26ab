"""EAF, the annotations of ELAN (https://www.mpi.nl/tools/elan/EAF_Annotation_Format_3.0_and_ELAN.pdf)."""

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from ..validation import UserError
from .parsing import Tier, check_library, check_times, read_text


def read_eaf(file: Path) -> tuple[list[Tier], str | None]:
    """Return the tiers of an EAF file and the name of its recording, None where it names none.

    Tiers of symbolic associations have the times of the annotations that they refer to. A schema above 3.0, the last
    one that pympi knows, is read as long as times and annotations are where they were.

    Raises:
        UserError: for another or a truncated file, annotations without times, and times that run backwards.
    """
    check_library("pympi", file)
    import pympi

    try:
        root = ElementTree.fromstring(read_text(file))
    except ElementTree.ParseError as error:
        raise UserError(f"{file}: expected the XML of ELAN, found other text ({error}); save it again.") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise UserError(f"{file}: expected an ANNOTATION_DOCUMENT of ELAN, found {root.tag}; give another file.")
    version = root.get("VERSION") or root.get("FORMAT") or "unknown"
    try:
        # pympi raises a bare Exception for other text, which ElementTree has excluded, and takes attributes for given
        eaf = pympi.Eaf(str(file), suppress_version_warning=True)
        tiers = {name: eaf.get_annotation_data_for_tier(name) for name in eaf.get_tier_names()}
        origin, recording = 0, None
        for media in sorted(eaf.media_descriptors, key=lambda media: not media["MIME_TYPE"].startswith("audio"))[:1]:
            recording = PurePosixPath(unquote(urlsplit(media["MEDIA_URL"].replace("\\", "/")).path)).name
            origin = int(media.get("TIME_ORIGIN", 0))  # ms of the recording where the time of the tiers begins
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{file}: expected an EAF file of schema 2.7 to 3.0, found one of schema {version} that lacks a part of "
            f"these ({type(error).__name__}: {error}); save it in ELAN as schema 3.0."
        ) from error
    return [
        Tier(
            name,
            tuple(sorted(_interval(file, name, origin, *entry[:3]) for entry in entries if entry[2].strip())),
            speaker=eaf.get_parameters_for_tier(name).get("PARTICIPANT"),
        )
        for name, entries in tiers.items()
    ], recording


def _interval(
    file: Path, tier: str, origin: int, start: int | None, end: int | None, text: str
) -> tuple[float, float, str]:
    if start is None or end is None:  # a subdivision without bounds of its own
        raise UserError(
            f"{file}: expected times for each annotation, found none for {text.strip()} in tier {tier}; align it in "
            "ELAN."
        )
    start, end = (start + origin) / 1000, (end + origin) / 1000
    check_times(start, end, file, f"tier {tier}")
    return start, end, text.strip()
