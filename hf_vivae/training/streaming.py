"""Data of a run that streams its clips: labels and splits are read before the training, sounds while it runs."""

import numpy as np

from ..corpus.hub_shards import read_shards
from ..corpus.schema import first_names
from ..splits.folds import Fold
from ..validation import UserError
from .arguments import RunArguments
from .build import TrainingData, fold_parts

SHUFFLE_CLIPS = 1000  # that are in memory, and from which the next ones of an epoch are drawn


def load_streamed_data(run: RunArguments) -> TrainingData:
    """Return labels and the one fold of a dataset in shards, whose clips are described but for those that train.

    Raises:
        UserError: see `read_shards`; without validation clips where these select, and for a speaker in training and
            test.
    """
    sharded = read_shards(
        run.dataset_name,
        run.dataset_config,
        run.dataset_revision,
        run.audio_column,
        run.label_column,
        run.speaker_column,
        SHUFFLE_CLIPS,
    )
    train, validation, test = (sharded.parts[part] for part in ("train", "validation", "test"))
    if not validation and run.select_on == "validation":
        raise UserError(
            f"expected a split called validation in {run.dataset_name} with --streaming, found none; add --select_on "
            "none, or leave out --streaming."
        )
    # without such a split, some clip of train, since in this case all of both train
    fold = Fold("given", *((train, validation, test) if validation else (train[:-1], train[-1:], test)))
    parts = fold_parts(fold, run.select_on)
    trained, tested = (set(np.unique(sharded.speakers[list(parts[part])]).tolist()) for part in ("train", "test"))
    names = [sharded.speaker_names[index] for index in sorted(trained & tested)]
    if shared := [name for name in names if name]:  # "" stands for all that are not known
        raise UserError(
            f"expected no speaker of {run.dataset_name} in both training and test with --streaming, found "
            f"{first_names(shared)}; leave out --streaming, and divide the clips with --protocol speaker-k-fold."
        )
    described = sharded.describe([row for part, rows in parts.items() if part != "train" for row in rows])
    return TrainingData(
        corpus=sharded.corpus,
        digest=sharded.digest,
        labels=sharded.labels.tolist(),
        label_names=sharded.label_names,
        clips=described,
        folds=[fold],
        duplicates=None,
        sounds=sharded.rows,
    )
