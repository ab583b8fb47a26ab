"""Push models to the Hub: finished runs, and checkpoints during training."""

import hashlib
import io
import logging
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from huggingface_hub.utils import tqdm as upload_bar
from tqdm import tqdm
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import HubStrategy

from ..files import read_json
from ..models import short_name
from ..run_folder import is_finished
from ..validation import UserError
from .arguments import PushArguments
from .client import check_access, check_name, checkpoint_files, make_repo, push, push_collection, show_or_push
from .model_card import card_pictures, render_card
from .publication import Publication, find_publication, find_publications

LONGEST_REPO = 96  # characters, with the owner
UNUSABLE = re.compile(r"(?:[^A-Za-z0-9._]|[.-](?=[.-]))+")  # in a name, which has single hyphens and dots only
STAGE = ".push-"  # prefix of the folder that a checkpoint is pushed from
logger = logging.getLogger(__name__)


def push_models(arguments: PushArguments, cards: Path) -> None:
    """Show the files of one model, or of all models below a folder; with `yes`, push them.

    Args:
        arguments: as parsed by `parse_push`.
        cards: folder `model_cards/`.

    Raises:
        UserError: for a folder without a finished run, and see `name_repos`, `model_files` and `push`.
    """
    folder = Path(arguments.runs[0])
    if arguments.all:
        publications = find_publications(folder)
        study = dict(zip(name_repos(arguments.repo, publications), publications, strict=True))
    else:
        study = {arguments.repo: find_publication(folder)}
    repos = {
        repo: model_files(cards, repo, publication, arguments.license, study) for repo, publication in study.items()
    }
    show_or_push(repos, "model", not arguments.public, arguments.yes)
    if arguments.all and arguments.yes:
        print(f"collection  {push_collection(arguments.repo, list(repos), not arguments.public)}")


def model_files(
    cards: Path,
    repo: str,
    publication: Publication,
    license: str | None = None,
    study: Mapping[str, Publication] | None = None,
) -> dict[str, Path | bytes]:
    """Return the files of a model's repository by path: the checkpoint, README.md and its figures.

    Args:
        cards: folder `model_cards/`.
        repo: `owner/name`.
        publication: checkpoint and scores.
        license: licence of the training clips, where their owner has to name it.
        study: models that the card links to, by Hub id.

    Raises:
        UserError: see `checkpoint_files` and `render_card`.
    """
    files: dict[str, Path | bytes] = {file.name: file for file in checkpoint_files(publication.checkpoint)}
    for name, figure in card_pictures(publication).items():
        content = io.BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})  # the same bytes from any matplotlib
        files[name] = content.getvalue()
    return files | {"README.md": render_card(cards, repo, publication, license, study).encode()}


def name_repos(prefix: str, publications: Sequence[Publication]) -> list[str]:
    """Return a repository for each model of a study: `<prefix>-<model>-<recipe>`, and longer where two are equal.

    Args:
        prefix: `owner/name`.
        publications: the models.

    Raises:
        UserError: where two models have the same name with all their settings in it.
    """
    runs = [publication.record["run"] for publication in publications]
    names = [short_name(run["model"]) + (f" {run['recipe']}" if run["recipe"] != "none" else "") for run in runs]
    longer = [publication.scores.system.name for publication in publications]  # with the settings that differ
    for suffixes in (
        [""] * len(runs),
        [f" {run['task']} {run['protocol']}" for run in runs],
        [f" {publication.record['corpus']['digest']}" for publication in publications],
    ):
        longer = [name + suffix for name, suffix in zip(longer, suffixes, strict=True)]
        names = [full if names.count(name) > 1 else name for name, full in zip(names, longer, strict=True)]
    repos = []
    for name in names:
        repo = f"{prefix}-{UNUSABLE.sub('-', name).strip('-.')}"
        if len(repo) > LONGEST_REPO:
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            repo = f"{repo[: LONGEST_REPO - 9].rstrip('-.')}-{digest}"
        repos.append(check_name(repo))
    lower = [repo.lower() for repo in repos]  # the Hub does not distinguish case
    if equal := sorted(repo for repo in repos if lower.count(repo.lower()) > 1):
        raise UserError(
            f"expected a different name for each model, found several models for {equal[0]}; push these one by "
            "one, each with its --repo."
        )
    return repos


class PushToHubCallback(TrainerCallback):
    """Callback that pushes the checkpoints of a run's first fold to the Hub; `finish` pushes the run with its scores.

    Each checkpoint is pushed in the background, unless the push of the last one is not finished. With the strategy
    `end`, none is pushed before the end; with `all_checkpoints`, each is also kept in a folder of its own; with
    `hub_always_push`, training waits for the last push instead of leaving a checkpoint out. An error of such a push is
    a warning: training continues, and the push at its end has everything. Only the main process has this callback.

    Args:
        args: arguments of the training. By default, the repository is named after the output folder; it is private
            unless `hub_private_repo` is false.
        cards: folder `model_cards/`.

    Raises:
        UserError: where the Hub cannot be reached, or the token is missing or may not write; before training starts.
    """

    def __init__(self, args: TrainingArguments, cards: Path) -> None:
        name = args.hub_model_id or UNUSABLE.sub("-", Path(args.output_dir).resolve().name).strip("-.")
        self.repo = check_access(name, args.hub_token)
        self.cards, self.output = cards, Path(args.output_dir)
        self.target = {"revision": args.hub_revision, "token": args.hub_token}
        make_repo(self.repo, private=args.hub_private_repo is not False, **self.target)
        # one lock for both: huggingface_hub gives its bars another lock, and a bar of the upload's thread then breaks
        # the bars of training ("Set changed size during iteration")
        upload_bar.set_lock(tqdm.get_lock())
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")
        self._last_push: Future | None = None
        self._is_first_fold = True

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Remove copies of checkpoints that a killed training has left."""
        self._is_first_fold = not is_finished(self.output)
        for stage in Path(args.output_dir).glob(f"{STAGE}*"):
            shutil.rmtree(stage)

    def on_save(self, args, state, control, model, **kwargs) -> None:
        """Push the checkpoint that has just been written."""
        if args.hub_strategy == HubStrategy.END or not self._is_first_fold:
            return
        if self._last_push and args.hub_always_push:
            self._last_push.result()
        if self._last_push and not self._last_push.done():
            return
        folder = Path(args.output_dir)
        checkpoint = folder / f"checkpoint-{state.global_step}"
        try:
            stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=folder))  # Trainer deletes checkpoints that age
            for pattern in ("*.safetensors*", "*.py", "config.json", "preprocessor_config.json"):
                for file in checkpoint.glob(pattern):
                    shutil.copy2(file, stage)
        except OSError as error:
            logger.warning("%s was not pushed: %s", checkpoint.name, error)
            return
        labels = tuple(model.config.id2label[index] for index in range(model.config.num_labels))
        publication = Publication(stage, read_json(folder / "run.json"), labels)
        kept = checkpoint.name if args.hub_strategy == HubStrategy.ALL_CHECKPOINTS else None
        self._last_push = self._worker.submit(self._push, publication, f"Training, epoch {state.epoch:g}", kept)

    def _push(self, publication: Publication, message: str, kept: str | None) -> None:
        try:
            files = model_files(self.cards, self.repo, publication)
            if kept:
                files |= {f"{kept}/{path}": content for path, content in files.items() if path != "README.md"}
            push(files, self.repo, message=message, **self.target)
        except Exception as error:  # an error of this thread would be lost
            logger.warning("A checkpoint was not pushed: %s", error)
        finally:
            shutil.rmtree(publication.checkpoint)

    def finish(self) -> str:
        """Push the run with the scores of its finished folds, after the last checkpoint; return the commit's URL."""
        self._worker.shutdown()
        files = model_files(self.cards, self.repo, find_publication(self.output))
        return push(files, self.repo, message="End of training", **self.target)
