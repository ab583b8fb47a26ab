"""Arguments that select a corpus and trim its clips."""

import logging
import math
import os
from dataclasses import dataclass, field, fields
from typing import Literal

from ..validation import Arguments, UserError
from . import load_corpus
from .schema import Corpus

logger = logging.getLogger(__name__)


@dataclass
class CorpusArguments(Arguments):
    """Where clips come from, and what to do about those that are missing or cannot be used."""

    data: str = field(default="vivae", metadata={"help": "vivae, synthetic, folder, or noise (a control)."})
    data_dir: str | None = field(
        default=None,
        metadata={"help": "Folder of clips (folder), or folder or VIVAE.zip (vivae) instead of a download."},
    )
    data_url: str | None = field(default=None, metadata={"help": "Another address of VIVAE.zip, such as a mirror."})
    subset: Literal["full", "core"] = field(default="full", metadata={"help": "Part of VIVAE: full_set or core_set."})
    allow_partial: bool = field(
        default=False, metadata={"help": "Use what is there of VIVAE, with clips missing, extra or unusable."}
    )
    on_bad_audio: Literal["error", "skip"] = field(
        default="error",
        metadata={"help": "Clips that cannot be used stop the run, or are left out and listed."},
    )
    speaker_pattern: str | None = field(
        default=None,
        metadata={"help": "Regular expression whose group is the speaker in a file name (folder)."},
    )
    synthetic_seed: int = field(default=0, metadata={"help": "Seed of the corpora synthetic and noise."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_dir:
            self.data_dir = os.path.realpath(self.data_dir)  # the run may be repeated from elsewhere

    def load(self) -> Corpus:
        """The corpus; what is missing, left out or not as expected goes to the log as one warning.

        Raises:
            ValueError: for an unknown source, an option that it does not have, and whatever its reader raises.
        """
        corpus = load_corpus(
            self.data,
            data_dir=self.data_dir,
            data_url=self.data_url,
            subset=self.subset,
            allow_partial=self.allow_partial,
            on_bad_audio=self.on_bad_audio,
            speaker_pattern=self.speaker_pattern,
            synthetic_seed=self.synthetic_seed,
        )
        if corpus.problems:
            shown = "; ".join(corpus.problems[:5])
            more = f"; and {len(corpus.problems) - 5} more" if len(corpus.problems) > 5 else ""
            logger.warning("%d files are left out, missing or unexpected: %s%s", len(corpus.problems), shown, more)
        return corpus


SHORTEST = 0.025  # seconds: one window of the library's encoders, which fail or give NaN below it


@dataclass
class TrimArguments(Arguments):
    """How silence is cut off both ends of each clip before anything else; not at all without `trim_db`."""

    trim_db: float | None = field(
        default=None,
        metadata={"help": "Cut off what is so many dB below a clip's loudest 10 ms, at both ends; 40 is usual."},
    )
    trim_margin: float = field(
        default=0.05, metadata={"help": "Seconds of that silence that stay on both sides (with trim_db)."}
    )
    trim_min_seconds: float = field(
        default=0.1, metadata={"help": "Seconds below which no clip is cut (with trim_db)."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trim_db is None:
            self._refuse_without_threshold()
        elif not (math.isfinite(self.trim_db) and self.trim_db > 0):
            raise UserError(f"expected --trim_db above 0, found {self.trim_db:g}; usual ones lie between 20 and 60.")
        if not (math.isfinite(self.trim_margin) and self.trim_margin >= 0):
            raise UserError(f"expected --trim_margin of 0 s or more, found {self.trim_margin:g}; 0.05 is usual.")
        if not (math.isfinite(self.trim_min_seconds) and self.trim_min_seconds >= SHORTEST):
            raise UserError(
                f"expected --trim_min_seconds of {SHORTEST} or more, which encoders need, found "
                f"{self.trim_min_seconds:g}; 0.1 is usual."
            )

    @property
    def trim(self) -> dict[str, float] | None:
        """The settings as feature extractors have them; None where nothing is trimmed."""
        if self.trim_db is None:
            return None
        return {entry.name: getattr(self, entry.name) for entry in fields(TrimArguments)}

    def _refuse_without_threshold(self) -> None:
        for entry in fields(TrimArguments):
            value = getattr(self, entry.name)
            if value != entry.default:
                raise UserError(
                    f"expected --trim_db beside --{entry.name} {value:g}, found none, so that nothing is trimmed; "
                    f"add --trim_db 40 or leave out --{entry.name}."
                )
