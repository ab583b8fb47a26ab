"""Annotated segments of recordings as clips, which are not cut on the disk: a clip is the path of a part of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..annotations.match import match_recordings, recording_stem
from ..annotations.read import READABLE, read_annotations
from ..audio import ROUNDING, SHORTEST_SECONDS, BadAudio, open_sound
from ..files import walk_files
from ..validation import UserError, check_choice, readable
from .checked import checked_clips
from .decoded import hash_recording
from .folder import OUTSIDE, TWICE, LabelledFile, find_speakers, may_be_clip, read_clip
from .listing import Listing, normalize
from .schema import (
    BAD_AUDIO,
    ON_BAD_AUDIO,
    Corpus,
    CorpusError,
    Problems,
    build_dataset,
)

if TYPE_CHECKING:
    from ..annotations.segment import Annotation


OVERLAPPING = "overlapping with a segment of the same speaker"
# kinds of problems that are listed, and no error
NOT_ANNOTATED = "without an annotation"
NO_SEGMENT = "without a segment in the annotation"
OTHER_TEXT = "a text of no recording's name"
# In lower case: what libsndfile does not read, and annotators keep next to the sound of the same name.
FILMS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})


def read_segments(
    path: str | Path,
    annotations: str | Path | None = None,
    tier: str | None = None,
    speaker_tier: str | None = None,
    speaker_pattern: str | None = None,
    on_bad_audio: str = "error",
) -> Corpus:
    """Read the annotated segments of the recordings in a folder, in the order of recordings and times.

    Each segment is a clip, whose name is that of its recording below the folder with a media fragment in seconds, such
    as `day1/interview.wav#t=12.500,14.250` (W3C, Media Fragments URI 1.0, 2012). The dataset has the columns of every
    corpus, and `recording`, by which protocols keep the segments of one recording in one part. The sorted labels are
    the names of the emotion column. Names, labels and speakers are converted to Unicode's NFC. Recordings outside the
    folder are not read, even where links lead to them.

    Args:
        path: the folder of the recordings, at any depth, in any format of libsndfile.
        annotations: a file for all recordings, or a folder with files of one or several; by default the first folder.
            Formats are those of `annotations.read.READABLE`; a .txt in a folder is an annotation if its name begins
            with that of a recording.
        tier: as for `read_annotations`.
        speaker_tier: as for `read_annotations`.
        speaker_pattern: as for `read_folder`, of the name of the recording; in place of speakers in the annotations.
        on_bad_audio: "skip" leaves out segments whose sound cannot be used (silent, shorter than `SHORTEST_SECONDS`,
            or ending more than `ROUNDING` after the recording), and lists them in `Corpus.problems`, together with
            recordings without segments.

    Raises:
        CorpusError: for segments that cannot be used; its `problems` names all of them.
        UserError: for a missing folder, an annotation that cannot be read or whose recording is not there, no segments
            or only one label, and speakers of a tier and a pattern.
    """
    check_choice("--on_bad_audio", on_bad_audio, ON_BAD_AUDIO)
    if speaker_tier is not None and speaker_pattern is not None:
        raise UserError(
            "expected speakers from --speaker_tier or from --speaker_pattern, found both; leave one of them out."
        )
    problems = Problems()
    recordings = _list_recordings(Path(path), problems)
    source = Path(path if annotations is None else annotations)
    annotated = _read_annotated(source, recordings, tier, speaker_tier, problems)
    problems.note(NOT_ANNOTATED, [name for file, name in recordings.items() if file not in annotated])
    problems.note(NO_SEGMENT, [recordings[file] for file in annotated if not annotated[file].segments])
    used = [file for file in recordings if file in annotated and annotated[file].segments]
    clips = {file: _name_clips(file, recordings[file], annotated[file], problems) for file in used}
    if speaker_pattern is not None:
        speakers = find_speakers([recordings[file] for file in used], speaker_pattern, problems)
        for file, speaker in zip(used, speakers, strict=True):
            clips[file] = [replace(clip, speaker=speaker) for clip in clips[file]]
    rows = []
    with checked_clips() as checked:
        for file in used:
            name = recordings[file]
            try:
                with open_sound(file, name):
                    hash_recording(file.absolute())
            except BadAudio as error:  # once, not for each segment
                problems.note(BAD_AUDIO, [f"{name}: expected {error.expected}, found {error.found}"])
                continue
            of_recording = (read_clip(clip, problems, checked) for clip in clips[file])
            rows += [row | {"recording": name} for row in of_recording if row]
    if problems.keys() - {NOT_ANNOTATED, NO_SEGMENT, OTHER_TEXT, *([BAD_AUDIO] if on_bad_audio == "skip" else [])}:
        remedy = ", or leave out those that cannot be used with --on_bad_audio skip" if BAD_AUDIO in problems else ""
        raise CorpusError(
            f"expected only usable segments of the recordings in {path}, found {problems}; correct the annotations or "
            f"replace the recordings{remedy}.",
            problems.lines(),
        )
    labels = sorted({row["emotion"] for row in rows})
    if len(labels) < 2:
        raise UserError(
            f"expected segments of at least two labels in {source}, found "
            f"{f'only {labels[0]}' if labels else 'none'}; correct --annotations, or the --tier of the labels."
        )
    rates = {row.pop("sampling_rate") for row in rows}
    dataset = build_dataset(rows, labels, sampling_rate=rates.pop() if len(rates) == 1 else None)
    return Corpus("segments", dataset.add_column("recording", [row["recording"] for row in rows]), problems.lines())


def _list_recordings(root: Path, problems: Problems) -> dict[Path, str]:
    """Return the recordings of a folder in the order of their names, without films of recordings of the same name."""
    listing = Listing(root, may_be_clip)
    problems.note(TWICE, [f"{name}, in two Unicode forms" for name, paths in listing.paths.items() if len(paths) > 1])
    names = {paths[0]: name for name, paths in sorted(listing.paths.items())}
    unreadable = [name for file, name in names.items() if str(file) != readable(str(file))]
    problems.note("with a name that is not UTF-8", unreadable)
    outside = {file: target for file in names if (target := listing.target_outside(file))}
    problems.note(OUTSIDE, [f"{names[file]}, a link to {target}" for file, target in outside.items()])
    sounds = {file.with_suffix("") for file in names if file.suffix.lower() not in FILMS}
    films = {file for file in names if file.suffix.lower() in FILMS and file.with_suffix("") in sounds}
    return {file: name for file, name in names.items() if file not in outside and file not in films}


def _read_annotated(
    source: Path, recordings: Mapping[Path, str], tier: str | None, speaker_tier: str | None, problems: Problems
) -> dict[Path, Annotation]:
    """Return the annotation of each recording that has one, from a file or from the files of a folder."""
    formats = tuple(map(str.lower, READABLE))
    if source.is_dir():
        stems = tuple(file.stem for file in recordings)
        files = [file for file in walk_files(source) if file.name.lower().endswith(formats)]
        texts = [file for file in files if file.suffix.lower() == ".txt" and not file.name.startswith(stems)]
        problems.note(OTHER_TEXT, [readable(file.relative_to(source).as_posix()) for file in texts])
        files = [file for file in files if file not in texts]
    else:
        files = [source] if source.is_file() else []
    if not files:
        raise UserError(
            f"expected annotations ({', '.join(READABLE)}) at {source}, found none; give their file or folder with "
            "--annotations."
        )
    annotations = []
    for file in files:
        beside = {normalize(recording.stem) for recording in recordings if recording.parent == file.parent}
        for annotation in read_annotations(file, tier, speaker_tier):
            # recordings of the same name in other folders have annotations of their own
            is_beside = normalize(recording_stem(annotation.recording)) in beside
            name = f"{file.parent.as_posix()}/{annotation.recording}" if is_beside else annotation.recording
            annotations.append(replace(annotation, recording=name))
    return dict(match_recordings(annotations, list(recordings)))


def _name_clips(file: Path, name: str, annotation: Annotation, problems: Problems) -> list[LabelledFile]:
    """Return the segments of a recording as clips; those that overlap or are too short are added to the problems."""
    clips: dict[str, LabelledFile] = {}
    ends: dict[str | None, float] = {}  # of each speaker's last segment
    for segment in annotation.segments:
        times = f"{segment.start:.3f},{segment.end:.3f}"
        clip = f"{name}#t={times}"
        seconds = segment.end - segment.start
        if segment.start < ends.get(segment.speaker, 0.0) - ROUNDING:
            problems.note(OVERLAPPING, [f"{clip} ({segment.label})"])
        elif clip in clips:
            problems.note(TWICE, [f"{clip}, as {clips[clip].label} and {segment.label}"])
        elif seconds < SHORTEST_SECONDS - 5e-4:  # rounded to milliseconds
            problems.note(BAD_AUDIO, [f"{clip}: expected at least 25 ms of sound, found {1000 * seconds:.3g} ms"])
        else:
            clips[clip] = LabelledFile(
                file=clip,
                path=Path(f"{file}#t={times}"),
                label=normalize(segment.label),
                speaker=segment.speaker and normalize(segment.speaker),
                item=times,
            )
        ends[segment.speaker] = max(segment.end, ends.get(segment.speaker, 0.0))
    return list(clips.values())
