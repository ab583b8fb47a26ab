"""Silence at both ends of clips: the flags that cut it off, and how much of a corpus they cut."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import datasets
import numpy as np

from . import audio
from .models.silence import sounding_part
from .validation import UserError

SHORTEST = 0.025  # seconds: one window of the library's encoders, which fail or give NaN below it


@dataclass
class TrimArguments:
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


@dataclass(frozen=True)
class Cuts:
    """What trimming cuts off the clips of a corpus, an entry for each clip in the corpus's order.

    Attributes:
        files: names as in the column `file`.
        seconds: `(clips,)`, lengths before.
        start: `(clips,)`, seconds that are cut off the beginning.
        end: `(clips,)`, seconds that are cut off the end.
    """

    files: tuple[str, ...]
    seconds: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Seconds that are cut off each clip, `(clips,)`."""
        return self.start + self.end

    def select(self, rows: Sequence[int]) -> "Cuts":
        """Those of some clips."""
        rows = np.asarray(rows)
        files = tuple(self.files[row] for row in rows)
        return Cuts(files, self.seconds[rows], self.start[rows], self.end[rows])


def measure_cuts(dataset: datasets.Dataset, trim: dict[str, float]) -> Cuts:
    """What trimming would cut off each clip; all of them are decoded, at their own rates.

    Args:
        dataset: a corpus.
        trim: of `TrimArguments.trim`.
    """
    files = tuple(dataset["file"])
    parts = []
    for source, name in zip(dataset["audio"], files, strict=True):
        samples, rate = audio.load(source, name=name)
        first, last = sounding_part(samples, rate, **trim)
        parts.append((len(samples) / rate, first / rate, (len(samples) - last) / rate))
    return Cuts(files, *np.array(parts).T)


def trim_statistics(cuts: Cuts) -> dict[str, Any]:
    """How many of some clips are cut and by how much, ready for JSON; seconds, and shares of 1.

    `mean_start` and `mean_end` are over all the clips, also those that are not cut.
    """
    longest = int(cuts.total.argmax())
    before, cut = float(cuts.seconds.sum()), float(cuts.total.sum())
    return {
        "clips": len(cuts.files),
        "clips_cut": int((cuts.total > 0).sum()),
        "seconds_before": before,
        "seconds_after": before - cut,
        "share_cut": cut / before,
        "mean_cut": float(cuts.total.mean()),
        "mean_start": float(cuts.start.mean()),
        "mean_end": float(cuts.end.mean()),
        "longest_cut": {"file": cuts.files[longest], "seconds": float(cuts.total[longest])},
        "shortest_left": float((cuts.seconds - cuts.total).min()),
    }
