"""Uploads of models, of checkpoints during training, and of Spaces."""

import hashlib
import io
import logging
import re
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import requires
from pathlib import Path

from huggingface_hub.repocard import RepoCard
from huggingface_hub.utils import tqdm as upload_bar
from packaging.requirements import Requirement
from tqdm import tqdm
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import HubStrategy

from ..files import read_json
from ..models import short_name
from ..run_folder import is_finished
from ..validation import UserError
from .client import check_access, check_name, checkpoint_files, make_repo, push
from .model_card import Sibling, card_pictures, render_card
from .publication import Publication, find_publication

LONGEST_REPO = 96  # characters, with the owner
UNUSABLE = re.compile(r"(?:[^A-Za-z0-9._]|[.-](?=[.-]))+")  # in a name, which has single hyphens and dots only
STAGE = ".push-"  # begins the folder that a checkpoint is pushed from
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
    """A repository for each model of a study, `<prefix>-<model>-<recipe>`, with more of it where two would share one.

    Args:
        prefix: `owner/name`.
        publications: of the models.

    Raises:
        ValueError: where two would have one name all the same.
    """
    runs = [one.record["run"] for one in publications]
    names = [short_name(run["model"]) + (f" {run['recipe']}" if run["recipe"] != "none" else "") for run in runs]
    longer = [one.scores.system.name for one in publications]  # with the settings that differ
    for more in (
        [""] * len(runs),
        [f" {run['task']} {run['protocol']}" for run in runs],
        [f" {one.record['corpus']['digest']}" for one in publications],
    ):
        longer = [f"{name}{said}" for name, said in zip(longer, more, strict=True)]
        names = [full if names.count(name) > 1 else name for name, full in zip(names, longer, strict=True)]
    repos = [_repo(prefix, name) for name in names]
    twice = sorted({repo for repo in repos if [one.lower() for one in repos].count(repo.lower()) > 1})
    if twice:
        raise UserError(
            f"expected a name of its own for each model, found several that would be {twice[0]}; push these one by "
            "one, each with its --repo."
        )
    return repos


def _repo(prefix: str, name: str) -> str:
    full = f"{prefix}-{UNUSABLE.sub('-', name).strip('-.')}"
    if len(full) > LONGEST_REPO:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        full = f"{full[: LONGEST_REPO - 9].rstrip('-.')}-{digest}"
    return check_name(full)


class PushToHubCallback(TrainerCallback):
    """Callback that pushes the checkpoints of a run's first fold to the Hub; `finish` pushes the run with its scores.

    Each checkpoint is pushed in the background, unless the last one is still on its way. Strategy `end` waits for the
    end; `all_checkpoints` keeps each in a folder of its own as well; with `hub_always_push`, training waits for the
    last one instead of leaving one out. An error of such a push is a warning: training continues, and the push at its
    end has everything. Only the main process has this callback.

    Args:
        args: of the run. The repository is named after its folder by default, and private unless `hub_private_repo`
            is false.
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
        # one lock for both: huggingface_hub gives its bars another, and one that an upload shows from its thread then
        # breaks into what the training writes ("Set changed size during iteration")
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
        except Exception as error:  # a thread's error would be lost
            logger.warning("A checkpoint was not pushed: %s", error)
        finally:
            shutil.rmtree(publication.checkpoint)

    def finish(self) -> str:
        """Push the run with the scores of its finished folds, after the last checkpoint; return the commit's URL."""
        self._worker.shutdown()
        files = model_files(self.cards, self.repo, find_publication(self.output))
        return push(files, self.repo, message="End of training", **self.target)


PACKAGE = Path(__file__).parents[1]


def space_files(demo: Path, checkpoints: Sequence[str]) -> dict[str, Path | bytes]:
    """What a Space is made of, by path: page, card, requirements, the models' ids and this package.

    Args:
        demo: folder `demo/`.
        checkpoints: Hub ids of models; the page lets its user choose.

    Raises:
        ValueError: for a checkpoint that is no Hub id, such as a folder, which the Space could not load.
    """
    for checkpoint in checkpoints:
        if Path(checkpoint).exists() or "/" not in checkpoint:
            raise UserError(
                f"expected the Hub id of a model (owner/name) for a Space, found {checkpoint}; push the model first, "
                "and give its id."
            )
        check_name(checkpoint)
    code = sorted(file for file in PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {
        "app.py": demo / "app.py",
        "README.md": _card(demo / "README.md", checkpoints),
        "checkpoints.txt": "".join(f"{checkpoint}\n" for checkpoint in checkpoints).encode(),
        "requirements.txt": "".join(f"{line}\n" for line in requirements()).encode(),
        **{f"{PACKAGE.name}/{file.relative_to(PACKAGE).as_posix()}": file for file in code},
    }


def requirements() -> list[str]:
    """What this package needs, and its page, as pip reads it."""
    found = map(Requirement, requires("hf_vivae") or [])
    return sorted(
        f"{one.name}{one.specifier}" for one in found if one.marker is None or one.marker.evaluate({"extra": "demo"})
    )


def _card(file: Path, checkpoints: Sequence[str]) -> bytes:
    card = RepoCard.load(file)
    card.data["models"] = list(checkpoints)
    return str(card).encode()
