"""Which clips: the arguments that all scripts with a corpus share."""

import logging
import os
from dataclasses import dataclass, field
from typing import Literal

from .corpus import load_corpus
from .corpus.schema import Corpus

logger = logging.getLogger(__name__)


@dataclass
class CorpusArguments:
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
