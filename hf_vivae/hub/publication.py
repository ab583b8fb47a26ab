"""Publications: a checkpoint of each system below a folder, with its record and scores."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.runs import find_folders
from ..evaluation.scores import SystemScores, score_system
from ..evaluation.systems import join_folds
from ..files import read_json
from ..validation import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publication:
    """Checkpoint with the content of its card.

    Args:
        checkpoint: folder of the published weights: the first fold of the first seed.
        record: its `run.json`.
        labels: names of the labels, in the order of the logits.
        scores: pooled over the test clips of all folds and seeds; None during training.
    """

    checkpoint: Path
    record: dict[str, Any]
    labels: tuple[str, ...]
    scores: SystemScores | None = None


def find_publications(folder: Path) -> list[Publication]:
    """Return a publication for each system below a folder; each run folder that is left out is a warning.

    Args:
        folder: a run folder, or a folder with any number of them.

    Raises:
        UserError: where no finished run is found.
    """
    folders, left_out = find_folders([folder])
    for sentence in left_out:
        logger.warning("%s", sentence)
    publications = []
    for group in join_folds(folders):
        for system in group.systems:
            checkpoint = system.runs[0].folds[0].path
            scores = score_system(system, group.labels)
            publications.append(Publication(checkpoint, read_json(checkpoint / "run.json"), group.labels, scores))
    return publications


def find_publication(folder: Path) -> Publication:
    """Return the only publication below a folder.

    Raises:
        UserError: where there is none, or several.
    """
    publications = find_publications(folder)
    if len(publications) > 1:
        names = ", ".join(publication.scores.system.name for publication in publications)
        raise UserError(
            f"expected the runs of one model in {folder}, found {len(publications)} ({names}); give the folder of one "
            "of them, or push all of them with --all."
        )
    return publications[0]
