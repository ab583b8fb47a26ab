"""Runs to the Hub: what would go there, and the pushes of a training, with our card in place of the library's."""

import io
import logging
import re
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.trainer_utils import HubStrategy

from .arguments import VivaeTrainingArguments
from .card import Sibling, card_pictures, render_card
from .hub import check_access, check_name, checkpoint_files, push
from .models import short_name
from .publication import Publication, find_publication, in_progress

logger = logging.getLogger(__name__)


def model_files(
    cards: Path, repo: str, publication: Publication, license: str | None = None, study: Sequence[Sibling] = ()
) -> dict[str, Path | bytes]:
    """What a model's repository is made of, by path: the checkpoint, README.md, and its pictures.

    Args:
        cards: folder `model_cards/`.
        repo: `owner/name`.
        publication: checkpoint and scores.
        license: of the training clips, where they are somebody's own.
        study: other models that the card links to.

    Raises:
        ValueError: see `checkpoint_files` and `render_card`.
    """
    files: dict[str, Path | bytes] = {file.name: file for file in checkpoint_files(publication.checkpoint)}
    for name, figure in card_pictures(publication).items():
        content = io.BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})  # else a new matplotlib is a new picture
        files[name] = content.getvalue()
    return files | {"README.md": render_card(cards, repo, publication, license, study).encode()}


def name_repos(prefix: str, publications: Sequence[Publication]) -> list[str]:
    """A repository for each model of a study, `<prefix>-<model>`, with more of its name where two would share one."""
    names = [short_name(publication.record["run"]["model"]) for publication in publications]
    longer = [publication.scores.system.name for publication in publications]
    longest = [f"{name} {one.record['run']['protocol']}" for name, one in zip(longer, publications, strict=True)]
    for more in (longer, longest):
        names = [full if names.count(name) > 1 else name for name, full in zip(names, more, strict=True)]
    # a name has single hyphens and dots only
    return [
        check_name(f"{prefix}-{re.sub(r'(?:[^A-Za-z0-9._]|[.-](?=[.-]))+', '-', name).strip('-.')}") for name in names
    ]


class Publisher:
    """Pushes a training: its checkpoints while it goes on, and at the end the whole run with its scores.

    Args:
        args: `hub_*` are the library's; the repository is named after the run folder by default, and private unless
            `hub_private_repo` is false.
        cards: folder `model_cards/`.

    Raises:
        ValueError: where the Hub cannot be reached or the token is missing or refused, before anything is trained.
    """

    def __init__(self, args: VivaeTrainingArguments, cards: Path) -> None:
        self.repo = check_access(args.hub_model_id or Path(args.output_dir).resolve().name, args.hub_token)
        self.cards, self.output = cards, Path(args.output_dir)
        private = args.hub_private_repo is not False
        self.target = {"private": private, "revision": args.hub_revision, "token": args.hub_token}

    def while_training(self, extractor: FeatureExtractionMixin, record: dict[str, Any]) -> "CheckpointPushes":
        """What pushes the checkpoints of the fold whose record it is."""
        return CheckpointPushes(self, extractor, record)

    def finish(self) -> str:
        """Push the run with the scores of its finished folds; the commit's address."""
        files = model_files(self.cards, self.repo, find_publication(self.output))
        return push(files, self.repo, message="End of training", **self.target)


class CheckpointPushes(TrainerCallback):
    """Pushes each checkpoint in the background, unless the last one is still on its way.

    Strategy `end` waits for the end; `all_checkpoints` keeps each in a folder of its own as well. A push that fails is
    a warning: training goes on, and the push at its end has everything.
    """

    def __init__(self, publisher: Publisher, extractor: FeatureExtractionMixin, record: dict[str, Any]) -> None:
        self.publisher, self.extractor, self.record = publisher, extractor, record
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")
        self._under_way: Future | None = None

    def on_save(self, args, state, control, model, **kwargs) -> None:
        """Send the checkpoint that has just been written."""
        if not state.is_world_process_zero or args.hub_strategy == HubStrategy.END:
            return
        if self._under_way and not self._under_way.done() and not args.hub_always_push:
            return
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        stage = Path(tempfile.mkdtemp(prefix=".push-", dir=args.output_dir))  # Trainer deletes checkpoints that age
        for file in (*checkpoint.glob("*.safetensors*"), *checkpoint.glob("*.py"), checkpoint / "config.json"):
            shutil.copy2(file, stage)
        self.extractor.save_pretrained(stage)
        labels = tuple(model.config.id2label[index] for index in range(model.config.num_labels))
        kept = checkpoint.name if args.hub_strategy == HubStrategy.ALL_CHECKPOINTS else None
        self._under_way = self._worker.submit(self._push, stage, labels, f"Training, epoch {state.epoch:g}", kept)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        """Wait for what is on its way."""
        self._worker.shutdown()

    def _push(self, stage: Path, labels: tuple[str, ...], message: str, kept: str | None) -> None:
        publisher = self.publisher
        try:
            files = model_files(publisher.cards, publisher.repo, in_progress(stage, self.record, labels))
            if kept:
                files |= {f"{kept}/{file.name}": file for file in checkpoint_files(stage)}
            push(files, publisher.repo, message=message, **publisher.target)
        except ValueError as error:
            logger.warning("A checkpoint was not pushed: %s", error)
        finally:
            shutil.rmtree(stage)
