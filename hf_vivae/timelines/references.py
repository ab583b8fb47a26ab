"""Reference annotations of recordings: `hf-vivae timeline --reference`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from ..annotations.match import match_recordings, recording_stem
from ..annotations.read import READABLE, read_annotations
from ..annotations.segment import Annotation, Segment
from ..audio import BadAudio
from ..corpus.label_map import read_label_map
from ..corpus.schema import LabelMap, first_names
from ..inference.timeline import Recording
from ..validation import UserError, did_you_mean
from .recordings import RECORD, TABLES

LONGER = 0.1  # seconds by which a reference may end after its recording: encoders such as MP3's change the length


@dataclass(frozen=True)
class Reference:
    """Annotations that timelines are compared with.

    Args:
        path: annotation file, or a folder of them (also in its subfolders).
        tier: of the labels, see `read_annotations`.
        label_map: YAML file with lines `label: new label` or `label: null`; None keeps all labels.
        collar: in seconds, see `agreement.measure_agreement`.

    Raises:
        UserError: for a path that is not there, a collar below 0, and without pyannote.metrics.
    """

    path: Path
    tier: str | None = None
    label_map: Path | None = None
    collar: float = 0.2

    def __post_init__(self) -> None:
        # of a namespace that is absent, `find_spec` raises an error
        if find_spec("pyannote") is None or find_spec("pyannote.metrics") is None:
            raise UserError(
                "expected pyannote.metrics, which hf-vivae timeline --reference needs, found none; pip install "
                "'hf_vivae[annotation]'."
            )
        if not self.path.exists():
            raise UserError(
                f"expected an annotation file or a folder of them as --reference, found nothing at {self.path}; check "
                "the path."
            )
        if not 0 <= self.collar < float("inf"):  # also for NaN
            raise UserError(f"expected --collar of at least 0 s, found {self.collar:g}; 0.2 is usual.")

    def read(self, recordings: Sequence[Path], labels: Sequence[str]) -> dict[Path, tuple[Segment, ...]]:
        """Return the segments of each recording, in the order of the recordings.

        The annotation of a single file belongs to a single recording, whatever their names, unless it names another.

        Args:
            recordings: audio files; each needs an annotation, which may be empty.
            labels: those that a timeline can have.

        Raises:
            UserError: for an annotation that cannot be read or is of no recording, a recording without one, labels
                that are not among `labels`, and times after the end of a recording.
        """
        files = self._files(recordings)
        annotations = []
        for file in files:
            for annotation in read_annotations(file, self.tier):
                # recordings of the same name in several folders have annotations in folders of these names
                folder = file.relative_to(self.path).parent.as_posix()
                name = f"{folder}/{annotation.recording}"
                ends = tuple(f"/{end}" for end in (name, recording_stem(name)))
                paths = [f"/{path.as_posix()}" for path in recordings]
                if folder != "." and any(path.endswith(ends) or recording_stem(path).endswith(ends) for path in paths):
                    annotation = replace(annotation, recording=name)
                annotations.append(annotation)
        # of its stem: formats without the name of a recording
        if len(annotations) == len(recordings) == 1 and annotations[0].recording == self.path.stem:
            annotations = [replace(annotations[0], recording=recordings[0].as_posix())]
        matched = dict(match_recordings(annotations, recordings))
        missing = [str(path) for path in recordings if path not in matched]
        if missing:
            raise UserError(
                f"expected an annotation of every recording in {self.path}, found none of {first_names(missing)}; add "
                "them, or leave these recordings out."
            )
        for path, annotation in matched.items():
            try:
                seconds = Recording.open(path).seconds
            except (BadAudio, OSError):
                continue  # reported when it is scored
            last = max((segment.end for segment in annotation.segments), default=0.0)
            if last > seconds + LONGER:
                raise UserError(
                    f"{path.name}: expected a reference that ends with the recording, at {seconds:.2f} s, found a "
                    f"segment until {last:.2f} s; correct the reference, or give the recording that it is of."
                )
        targets = _targets(matched, labels, read_label_map(self.label_map) if self.label_map else None)
        return {
            path: tuple(
                replace(segment, label=label)
                for segment in matched[path].segments
                if (label := targets[segment.label]) is not None
            )
            for path in recordings
        }

    def _files(self, recordings: Sequence[Path]) -> list[Path]:
        """Return the annotation files; of a folder, without tables of `timeline` and texts of other names."""
        if not self.path.is_dir():
            return [self.path]
        suffixes = {suffix.lower() for suffix in READABLE}
        files = sorted(file for file in self.path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
        # a copy of an output folder, whose files were corrected, has their tables from before
        tables = {record.with_name(f"{name}.csv") for record in self.path.rglob(RECORD) for name in TABLES}
        stems = tuple(path.stem for path in recordings)
        others = [file for file in files if file.suffix.lower() == ".txt" and not file.name.startswith(stems)]
        if left_out := [str(file) for file in files if file in tables or file in others]:
            print(f"Files that are not annotations of these recordings: {first_names(left_out)}.", file=sys.stderr)
        files = [file for file in files if str(file) not in left_out]
        if not files:
            raise UserError(
                f"expected annotation files ({', '.join(READABLE)}) in the folder {self.path} of --reference, found "
                "none; check the path."
            )
        return files


def make_reference(
    path: Path | None,
    tier: str | None,
    label_map: Path | None,
    collar: float | None,
    *,
    fit: bool = False,
    outputs: Sequence[Path] | None = None,
) -> Reference | None:
    """Return the reference that a command line gives; None without one.

    Raises:
        UserError: for flags that need a reference without one, `--output` with `--fit`, and as `Reference`.
    """
    needed = {"--tier": tier, "--label_map": label_map, "--collar": collar, "--fit": fit or None}
    flags = [flag for flag, value in needed.items() if value is not None]
    if path is None and flags:
        raise UserError(
            f"expected --reference with {flags[0]}, found none; give an annotation file or a folder of them."
        )
    if fit and outputs:
        raise UserError(
            "expected --fit without --output, found both; fit first, then repeat the command without --fit."
        )
    if path is None:
        return None
    return Reference(path, tier, label_map, Reference.collar if collar is None else collar)


def _targets(
    annotations: Mapping[Path, Annotation], labels: Sequence[str], label_map: LabelMap | None
) -> dict[str, str | None]:
    """Return the label of the checkpoint for each label of the references; None leaves its segments out."""
    names = {segment.label: path.name for path, annotation in annotations.items() for segment in annotation.segments}
    targets = {label: label_map.targets.get(label, label) if label_map else label for label in names}
    for label, target in targets.items():
        if target is not None and target not in labels:
            if label_map:
                remedy = f"correct the --label_map {label_map.name}"
            else:
                remedy = (
                    f"give a --label_map with lines such as `{label}: {labels[0]}`, or `{label}: null` to leave its "
                    "segments out"
                )
            raise UserError(
                f"{names[label]}: expected labels of the checkpoint ({first_names(labels)}) in the reference, found "
                f"{target}{did_you_mean(target, labels)}; {remedy}."
            )
    return targets
