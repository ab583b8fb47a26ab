"""The command `hf-vivae timeline`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from ..annotations.segment import Segment
from ..annotations.write import WRITERS, check_format
from ..checkpoints.timeline_settings import check_thresholds, timeline_settings
from ..files import OUTPUT_REMEDY, atomic_file, check_new
from ..inference.output import errors_file, terminal_text
from ..inference.predict import SOME_FAILED
from ..inference.scorer import Scorer
from ..inference.shards import ProcessShard
from ..inference.timeline import Recording, SilentRecording, Timeline, Windows, find_segments, make_timeline
from ..validation import UserError, check_choice
from .agreement import report_agreement
from .folder import read_timelines, write_timelines
from .formats import FORMATS, format_of, write_timeline
from .page import check_page_length
from .recordings import find_recordings
from .references import Reference
from .thresholds import warn_of_fit

DEFAULT_FORMATS = (".TextGrid",)  # of a folder


def run_timeline(
    checkpoint: str,
    inputs: Sequence[str],
    *,
    outputs: Sequence[Path] = (),
    formats: Sequence[str] = (),
    window: float | None = None,
    hop: float | None = None,
    gate_db: float | None = None,
    min_seconds: float | None = None,
    min_score: float | None = None,
    revision: str | None = None,
    device: str | None = None,
    bf16: bool = False,
    reference: Reference | None = None,
) -> int:
    """Label the parts of recordings, print or write their segments, and return the exit code.

    With a reference, the agreement with it is printed, and a folder also has tables and pictures of it.
    """
    folder = _output_folder(outputs, formats)
    default = (*DEFAULT_FORMATS, ".png") if reference else DEFAULT_FORMATS
    suffixes = (formats or default) if folder else [format_of(file) for file in outputs]
    for suffix in suffixes:
        if suffix in WRITERS:
            check_format(Path(f"x{suffix}"))  # whose library may not be installed
    if not folder:
        for file in outputs:
            check_new(file)
    check_thresholds(gate_db=gate_db, min_score=min_score, min_seconds=min_seconds)
    if window is not None:  # refused before anything is loaded
        Windows(window, window if hop is None else hop)
    recordings = find_recordings(inputs)
    several = folder is not None or len(recordings) > 1
    if several and not folder and outputs:
        raise UserError(
            f"expected a folder as --output of {len(recordings)} recordings, found {outputs[0]}; give a folder, and "
            "--format for its files."
        )

    def open_recording(path: Path) -> Recording:
        recording = Recording.open(path)
        if ".html" in suffixes:
            check_page_length(recording)
        return recording

    if not several:
        open_recording(recordings[0].path)  # refused before anything is loaded
    share = ProcessShard.of_this_process()
    scorer = Scorer(checkpoint, revision, device or share.device, bf16=bf16)
    thresholds = timeline_settings(
        scorer.model.config, gate_db=gate_db, min_score=min_score, min_seconds=min_seconds, window=window, hop=hop
    )
    windows = Windows(thresholds.window, thresholds.hop, thresholds.gate_db)
    # models that take less than the default keep it
    windows.check_length(max(scorer.longest_input, Windows.seconds))
    paths = [recording.path for recording in recordings]
    references = reference.read(paths, scorer.labels[: scorer.unknown]) if reference else {}

    def report(timelines: Mapping[Path, tuple[float, Sequence[Segment]]]) -> None:
        if reference and timelines:
            report_agreement(timelines, references, reference.collar, folder)
            warn_of_fit(scorer.model.config, list(timelines))

    def annotate(path: Path) -> tuple[Timeline, list[Segment]]:
        try:
            timeline = make_timeline(scorer, open_recording(path), windows)
        except SilentRecording as silence:
            if not several:
                raise
            timeline = silence.timeline
        return timeline, find_segments(timeline, thresholds.min_seconds, thresholds.min_score)

    if folder:
        total = sum(map(share.has, range(len(recordings))))
        with tqdm(total=total, unit="recording", disable=None, smoothing=0.05) as bar:
            settings = {"checkpoint": scorer.identity, "bf16": bf16}
            numbers = write_timelines(
                annotate, recordings, folder, formats=suffixes, labels=scorer.labels[: scorer.unknown],
                rejects=scorer.unknown is not None, settings=settings | asdict(thresholds), share=share, bar=bar,
                references=references,
            )  # fmt: skip
        if numbers is None:
            return 0
        annotated, failed = numbers
        print(f"{annotated} recordings annotated: {terminal_text(str(folder))}")
        if reference:
            report(read_timelines(folder, paths))
        if failed:
            print(
                f"{failed} recordings not, with the reason: {terminal_text(str(errors_file(folder)))}", file=sys.stderr
            )
        return SOME_FAILED if failed else 0
    if outputs:
        timeline, segments = annotate(recordings[0].path)
        for file in outputs:
            with atomic_file(file, OUTPUT_REMEDY) as part:
                write_timeline(part, timeline, segments, references.get(paths[0]))
            print(terminal_text(str(file)))
        report({paths[0]: (timeline.recording.seconds, segments)})
        return 0
    failed, printed = False, {}
    for recording in recordings:
        try:
            timeline, segments = annotate(recording.path)
        except (OSError, ValueError) as error:
            if not several:
                raise
            failed = True
            print(f"{terminal_text(str(recording.path))}\t{terminal_text(str(error))}", file=sys.stderr)
            continue
        if several:
            print(terminal_text(str(recording.path)))
        for segment in segments:
            print(f"{segment.start:9.2f} {segment.end:9.2f}  {terminal_text(segment.label)}  {segment.score:.0%}")
        printed[recording.path] = timeline.recording.seconds, segments
    report(printed)
    return SOME_FAILED if failed else 0


def _output_folder(outputs: Sequence[Path], formats: Sequence[str]) -> Path | None:
    """Return the output if it is a folder, None for files.

    Raises:
        UserError: for a file or a format that is not of `FORMATS`, and for outputs that do not go together.
    """
    for suffix in formats:
        check_choice("--format", suffix, FORMATS)
    folders = [output for output in outputs if format_of(output) is None]
    for output in folders:
        if output.suffix and not output.is_dir():
            raise UserError(
                f"expected --output with a suffix of {', '.join(FORMATS)}, or a folder, found {output.name}; give one "
                "of them."
            )
    if folders and len(outputs) > 1:
        raise UserError(
            f"expected one folder or several files as --output, found {', '.join(map(str, outputs))}; give the "
            "folder, and --format for its files."
        )
    if formats and not folders:
        raise UserError(
            f"expected a folder as --output with --format, found {outputs[0] if outputs else 'none'}; give one."
        )
    return folders[0] if folders else None
