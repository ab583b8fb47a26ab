"""Names and lengths of the clips of VIVAE's full set, as they were published."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

SAMPLING_RATE = 44100
# Samples of all 1085 clips, by the report of 2022 that this package reproduces.
SHORTEST, MEDIAN, MEAN, LONGEST = 17_619, 35_732, 39_819, 88_200


def read_manifest() -> list[dict[str, str]]:
    """Rows (file_name, speaker, emotion, intensity, item) of the shipped list of `full_set`, by file name."""
    with Path(__file__).with_name("manifest.csv").open(newline="", encoding="utf-8") as lines:
        return sorted(csv.DictReader(lines), key=lambda row: row["file_name"])


def compare_lengths(samples: Sequence[int]) -> str | None:
    """Say how the lengths of 1085 clips differ from those of VIVAE; None where they do not.

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
