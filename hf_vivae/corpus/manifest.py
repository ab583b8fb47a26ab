"""Published names and lengths of the clips of VIVAE's full set."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

SAMPLING_RATE = 44100
# Lengths of the 1085 clips in samples, as the paper (2022) states them.
SHORTEST, MEDIAN, MEAN, LONGEST = 17_619, 35_732, 39_819, 88_200


def read_manifest() -> list[dict[str, str]]:
    """Return the shipped list of `full_set`: rows of file_name, speaker, emotion, intensity and item, by file name."""
    with Path(__file__).with_name("manifest.csv").open(newline="", encoding="utf-8") as lines:
        return sorted(csv.DictReader(lines), key=lambda row: row["file_name"])


def compare_lengths(samples: Sequence[int]) -> str | None:
    """Return a text that compares the lengths of 1085 clips with those of VIVAE; None where they are equal.

    Args:
        samples: length of each clip at 44.1 kHz.
    """
    measured = (min(samples), median(samples), fmean(samples), max(samples))
    published = (SHORTEST, MEDIAN, MEAN, LONGEST)
    if all(abs(ours - theirs) < 1 for ours, theirs in zip(measured, published, strict=True)):  # the mean is rounded
        return None
    return (
        f"shortest {measured[0]}, median {measured[1]:.0f}, mean {measured[2]:.0f}, longest {measured[3]} samples, "
        f"not {SHORTEST}, {MEDIAN}, {MEAN} and {LONGEST}"
    )
