"""Lengths and labels of a corpus's clips, read from their headers, and which clips belong together."""

from dataclasses import dataclass

import numpy as np

from ..audio import inspect
from ..corpus.schema import INTENSITIES, Corpus

UNKNOWN = "(none)"  # the group of clips whose speaker or intensity is not known
GROUPS = {"emotion": "labels", "speaker": "speakers", "intensity": "intensities"}  # columns, and their plurals


@dataclass(frozen=True)
class Clips:
    """Lengths and labels of a corpus, an entry for each clip in the corpus's order.

    Attributes:
        name: of the corpus.
        label_names: all names of the emotion column, also of those without clips.
        samples: `(clips,)`, per channel.
        sampling_rates: `(clips,)`, in Hz.
        groups: names of each clip's emotion, speaker and intensity; the latter two only where they are known.
    """

    name: str
    label_names: tuple[str, ...]
    files: tuple[str, ...]
    samples: np.ndarray
    sampling_rates: np.ndarray
    groups: dict[str, tuple[str, ...]]

    @property
    def seconds(self) -> np.ndarray:
        """Lengths `(clips,)` in seconds."""
        return self.samples / self.sampling_rates

    def members(self, by: str) -> dict[str, np.ndarray]:
        """Row indices of the clips of each emotion, speaker or intensity; intensities from low to peak."""
        names = np.asarray(self.groups[by])
        order = {name: rank for rank, name in enumerate(INTENSITIES if by == "intensity" else ())}
        present = sorted(set(names.tolist()), key=lambda name: (name == UNKNOWN, order.get(name, 0), name))
        return {name: np.flatnonzero(names == name) for name in present}


def read_clips(corpus: Corpus) -> Clips:
    """Lengths and labels of all clips of a corpus."""
    dataset = corpus.dataset
    files, names = tuple(dataset["file"]), dataset.features["emotion"].names
    infos = [inspect(source, name) for source, name in zip(dataset["audio"], files, strict=True)]
    intensities = [None if index is None else INTENSITIES[index] for index in dataset["intensity"]]
    columns = {"speaker": list(dataset["speaker"]), "intensity": intensities}
    groups = {by: tuple(name or UNKNOWN for name in column) for by, column in columns.items() if any(column)}
    return Clips(
        name=corpus.name,
        label_names=tuple(names),
        files=files,
        samples=np.array([info.samples for info in infos]),
        sampling_rates=np.array([info.sampling_rate for info in infos]),
        groups={"emotion": tuple(names[index] for index in dataset["emotion"]), **groups},
    )
