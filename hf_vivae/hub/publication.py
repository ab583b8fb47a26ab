"""What there is to publish below a folder: systems of finished runs, their scores, and a checkpoint of each."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.runs import find_folders
from ..evaluation.scores import SystemScores, score_system
from ..evaluation.systems import join
from ..files import read_json
from ..validation import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publication:
    """A checkpoint with all that its card is made of.

    Args:
        checkpoint: folder whose weights are published: that of the first fold of the first seed.
        record: its `run.json`.
        labels: names of the labels, in the order of the logits.
        scores: pooled over the test clips of all folds and seeds; None while the training goes on.
    """

    checkpoint: Path
    record: dict[str, Any]
    labels: tuple[str, ...]
    scores: SystemScores | None = None


def find_publications(place: Path) -> list[Publication]:
    """A publication for each system below a folder; each run folder that is left out is a warning.

    Args:
        place: a run folder, or a folder with any number of them.

    Raises:
        ValueError: where no finished run is found.
    """
    folders, left_out = find_folders([place])
    for sentence in left_out:
        logger.warning("%s", sentence)
    return [
        _publication(score_system(system, group.labels), group.labels)
        for group in join(folders)
        for system in group.systems
    ]


def find_publication(place: Path) -> Publication:
    """The only one below a folder.

    Raises:
        ValueError: where there is none, or several.
    """
    found = find_publications(place)
    if len(found) > 1:
        names = ", ".join(one.scores.system.name for one in found)
        raise UserError(
            f"expected the runs of one model in {place}, found {len(found)} ({names}); give the folder of one of "
            "them, or push all of them with --all."
        )
    return found[0]


def _publication(scores: SystemScores, labels: tuple[str, ...]) -> Publication:
    checkpoint = scores.system.runs[0].folds[0].path
    return Publication(checkpoint, read_json(checkpoint / "run.json"), labels, scores)
