"""Corpora without sound for tests of the splits, and the content of their folds."""

from datasets import ClassLabel, Dataset, Features, Value

from hf_vivae.corpus import INTENSITIES
from hf_vivae.splits.folds import PARTS, Fold
from hf_vivae.splits.protocols import PROTOCOLS

SPEAKER_PROTOCOLS = [name for name, protocol in PROTOCOLS.items() if protocol.speaker_disjoint]
GROUPED = [name for name, protocol in PROTOCOLS.items() if protocol.grouped]
FEATURES = Features(
    {
        "file": Value("string"),
        "speaker": Value("string"),
        "intensity": ClassLabel(names=list(INTENSITIES)),
        "core": Value("bool"),
        "split": Value("string"),
    }
)


def corpus_of(speakers: list[str | None], names: list[str] | None = None, **columns: list) -> Dataset:
    """Return a corpus of these speakers, whose clips alternate in intensity (of the first two), core set and split."""
    count = len(speakers)
    known = {"intensity": [row % 2 for row in range(count)], "core": [row % 4 > 1 for row in range(count)]}
    known |= {"split": [("train", "validation", "test")[row % 3] for row in range(count)]} | columns
    names = names or [f"clip_{row:04}.wav" for row in range(count)]
    return Dataset.from_dict({"file": names, "speaker": speakers, **known}, features=FEATURES)


def parts(fold: Fold) -> list[set[int]]:
    return [set(getattr(fold, part)) for part in PARTS]


def named(folds: list[Fold], dataset: Dataset) -> list[tuple]:
    names = dataset["file"][:]
    return [(fold.name, *({names[row] for row in part} for part in parts(fold))) for fold in folds]
