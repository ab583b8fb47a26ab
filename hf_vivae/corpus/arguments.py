"""Command-line arguments that select a corpus and trim its clips."""

import math
import os
from dataclasses import dataclass, field, fields
from typing import Literal

from ..audio import SHORTEST_SECONDS
from ..validation import Arguments, UserError
from . import load_corpus
from .hub_dataset import dataset_title
from .schema import Corpus


@dataclass
class CorpusArguments(Arguments):
    """Source of the clips, and treatment of clips that are missing or cannot be used."""

    data: str = field(
        default="vivae",
        metadata={"help": "Corpus: vivae, emogator, hub, folder, segments, synthetic, or noise (a control)."},
    )
    data_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder of the clips (folder) or recordings (segments), or folder or archive in place of the "
            "download (vivae, emogator)."
        },
    )
    data_url: str | None = field(default=None, metadata={"help": "Another address of VIVAE.zip, such as a mirror."})
    subset: Literal["full", "core"] = field(default="full", metadata={"help": "Part of VIVAE: full_set or core_set."})
    allow_partial: bool = field(
        default=False,
        metadata={"help": "Use the good clips of a VIVAE or EmoGator with missing, extra or unusable clips."},
    )
    categories: list[str] = field(
        default_factory=lambda: ["vivae"],
        metadata={
            "help": "Categories of EmoGator: vivae (the six nearest to VIVAE's labels, under its names), all, or a "
            "list of names."
        },
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "Hub id, folder or Parquet file of an audio dataset (hub)."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the dataset (hub)."})
    dataset_split: str | None = field(
        default=None, metadata={"help": "Split of the dataset; by default all of them (hub)."}
    )
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of the dataset (hub)."}
    )
    audio_column: str | None = field(
        default=None, metadata={"help": "Column of the clips; by default the only one of audio (hub)."}
    )
    label_column: str | None = field(
        default=None, metadata={"help": "Column of the labels; by default the only candidate (hub)."}
    )
    speaker_column: str | None = field(
        default=None, metadata={"help": "Column of the speakers; by default the only candidate, if any (hub)."}
    )
    label_map: str | None = field(
        default=None,
        metadata={"help": "YAML file of lines `label: new label`; null leaves the label's clips out."},
    )
    on_bad_audio: Literal["error", "skip"] = field(
        default="error",
        metadata={"help": "Stop at clips that cannot be used (error), or leave them out and list them (skip)."},
    )
    speaker_pattern: str | None = field(
        default=None,
        metadata={"help": "Regular expression whose only group is the speaker in a file name (folder, segments)."},
    )
    synthetic_seed: int = field(default=0, metadata={"help": "Seed of the corpora synthetic and noise."})
    annotations: str | None = field(
        default=None,
        metadata={"help": "File or folder of the annotations of recordings; by default data_dir (segments)."},
    )
    tier: str | None = field(
        default=None, metadata={"help": "Tier or column of the labels, where there are several (segments)."}
    )
    speaker_tier: str | None = field(default=None, metadata={"help": "Tier or column of the speakers (segments)."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_dir:
            self.data_dir = os.path.realpath(self.data_dir)  # the run may be repeated from elsewhere
        if self.dataset_name and os.path.exists(self.dataset_name):  # else a Hub id
            self.dataset_name = os.path.realpath(self.dataset_name)
        if self.label_map:
            self.label_map = os.path.realpath(self.label_map)
        if self.annotations:
            self.annotations = os.path.realpath(self.annotations)

    @property
    def folder_name(self) -> str:
        """Name of the folder of results in `runs/`: the source, or the dataset of `hub` with -- for the slash."""
        is_named = self.data == "hub" and self.dataset_name
        return dataset_title(self.dataset_name).replace("/", "--") if is_named else self.data

    def load(self) -> Corpus:
        """Return the corpus, with one warning for files that are missing, left out or not as expected.

        Raises:
            UserError: for an unknown source, an option that the source does not have, and clips that cannot be used.
        """
        # a subclass has further fields
        corpus = load_corpus(**{entry.name: getattr(self, entry.name) for entry in fields(CorpusArguments)})
        corpus.log_problems()
        return corpus


@dataclass
class TrimArguments(Arguments):
    """Settings for cutting silence off both ends of each clip before anything else; without `trim_db`, none is cut."""

    trim_db: float | None = field(
        default=None,
        metadata={"help": "Cut off both ends of a clip that are this many dB below its loudest 10 ms; 40 is usual."},
    )
    trim_margin: float = field(
        default=0.05, metadata={"help": "Seconds of silence that are kept at both ends (with trim_db)."}
    )
    trim_min_seconds: float = field(
        default=0.1, metadata={"help": "Shortest length in seconds to which a clip is cut (with trim_db)."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trim_db is None:
            for entry in fields(TrimArguments):
                if (value := getattr(self, entry.name)) != entry.default:
                    raise UserError(
                        f"expected --trim_db with --{entry.name} {value:g}, found none, so that nothing is trimmed; "
                        f"add --trim_db 40 or leave out --{entry.name}."
                    )
        elif not (math.isfinite(self.trim_db) and self.trim_db > 0):
            raise UserError(f"expected --trim_db above 0, found {self.trim_db:g}; usual values are 20 to 60.")
        if not (math.isfinite(self.trim_margin) and self.trim_margin >= 0):
            raise UserError(f"expected --trim_margin of 0 s or more, found {self.trim_margin:g}; 0.05 is usual.")
        if not (math.isfinite(self.trim_min_seconds) and self.trim_min_seconds >= SHORTEST_SECONDS):
            raise UserError(
                f"expected --trim_min_seconds of {SHORTEST_SECONDS} or more, which encoders need, found "
                f"{self.trim_min_seconds:g}; 0.1 is usual."
            )

    @property
    def trim(self) -> dict[str, float] | None:
        """The arguments of `SilenceTrimmingMixin`; None where nothing is trimmed."""
        if self.trim_db is None:
            return None
        return {entry.name: getattr(self, entry.name) for entry in fields(TrimArguments)}
