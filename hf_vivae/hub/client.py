"""Files to the Hub: in one commit, which is whole or not there, and which can be repeated.

What a cut push has sent is not sent again, and one that changes nothing makes no commit.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_import_files

from ..files import read_json
from ..network import NetworkError, check_reachable
from ..validation import UserError

Kind = Literal["model", "dataset", "space"]
Answer = TypeVar("Answer")

BUSY = (409, 412, 429)  # another commit came between, or too many requests
ATTEMPTS = 4
WAIT_SECONDS = 1.0  # after the first, then twice as long each time; uploads are tried again by the library besides
AGAIN = "nothing is lost: repeat the command, and what was sent is not sent again"
logger = logging.getLogger(__name__)


def checkpoint_files(folder: Path) -> list[Path]:
    """What of a checkpoint goes to the Hub: configuration, weights as safetensors, and the code that they name.

    Nothing else does, whatever lies beside them: no pickle, no optimizer state, no record with names of local folders.

    Raises:
        ValueError: for a folder that lacks one of them.
    """
    if (folder / "adapter").is_dir():
        raise UserError(
            f"expected whole weights to push in {folder}, found LoRA's matrices alone; train with --lora_save merged."
        )
    configs = [folder / "config.json", folder / "preprocessor_config.json"]
    weights = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.safetensors.index.json"))
    missing = [file.name for file in configs if not file.is_file()] + ([] if weights else ["model.safetensors"])
    if missing:
        raise UserError(
            f"expected a checkpoint to push in {folder}, found no {' and no '.join(missing)}; give the folder of a "
            "finished run (pickled weights are not pushed)."
        )
    for file in weights:
        if file.suffix == ".safetensors":
            _check_weights(file)
    return [*configs, *weights, *_code(configs)]


def _check_weights(file: Path) -> None:
    try:
        with safe_open(file, "pt"):
            pass  # opening reads the header, which says how long the file has to be
    except SafetensorError as error:
        raise UserError(
            f"expected whole weights in {file}, found damaged ones ({error}); train the run again."
        ) from error


def _code(configs: list[Path]) -> list[Path]:
    """Files that the configurations' `auto_map` names, and those that these import."""
    found = set()
    for config in configs:
        for reference in read_json(config).get("auto_map", {}).values():
            module = config.parent / f"{reference.split('.')[0]}.py"
            if not module.is_file():  # or it names code of another repository, `owner/name--module.Class`
                raise UserError(
                    f"expected the code of {config} beside it, found no {module.name}; train the run again, or save "
                    "model and feature extractor with save_pretrained."
                )
            found |= {module, *map(Path, get_relative_import_files(module))}
    return sorted(found)


def check_name(repo: str) -> str:
    """The name of a repository, with or without its owner, as it was given.

    Raises:
        ValueError: for one that the Hub would refuse.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(
            f"expected a repository as owner/name of letters, digits and single . _ -, 96 at most, found {repo!r}; "
            "choose another name."
        ) from error
    return repo


def check_access(repo: str, token: str | None = None) -> str:
    """The full name of a repository, `owner/name`, once the Hub has been reached with a token that is valid.

    Args:
        repo: its name, with or without the owner, who is that of the token by default.
        token: by default the one that `hf auth login` or `HF_TOKEN` has left.

    Raises:
        ValueError: for a name that cannot be, without a token, with an invalid one, and without a network; within
            seconds.
    """
    check_name(repo)
    if not (token or get_token()):
        raise UserError(
            "expected a Hugging Face token that may write, found none; log in with `hf auth login`, or set HF_TOKEN."
        )
    if constants.is_offline_mode():
        raise UserError("expected the Hub, found HF_HUB_OFFLINE=1, which forbids it; unset it to push.")
    try:
        check_reachable(constants.ENDPOINT)
    except NetworkError as error:
        raise UserError(f"expected the Hub at {constants.ENDPOINT}, found {error.found}; {AGAIN}.") from error
    user = _persist(lambda: HfApi(token=token).whoami()["name"], repo)
    return repo if "/" in repo else f"{user}/{repo}"


def make_repo(
    repo: str, kind: Kind = "model", private: bool = True, revision: str | None = None, token: str | None = None
) -> None:
    """A repository to push to, where there is none yet.

    Args:
        repo: `owner/name`.
        kind: of the repository.
        private: whether others shall not see it.
        revision: branch that is made, too.
        token: see `check_access`.

    Raises:
        ValueError: where the token may not write there, and for a repository that is public although it should be
            private; what is private already stays so.
    """
    api = HfApi(token=token)
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}
    _persist(lambda: api.create_repo(repo, repo_type=kind, private=private, exist_ok=True, **sdk), repo)
    hidden = _persist(lambda: api.repo_info(repo, repo_type=kind).private, repo)
    if private and not hidden:
        raise UserError(
            f"expected {repo} to be private, found a public repository; say that it may be (push.py --public, "
            "train.py --hub_private_repo false), or choose another name."
        )
    if hidden and not private:
        logger.warning("%s exists and is private; it stays so until you change its settings.", repo)
    if revision:
        _persist(lambda: api.create_branch(repo, branch=revision, repo_type=kind, exist_ok=True), repo)


def push(
    files: Mapping[str, Path | bytes],
    repo: str,
    kind: Kind = "model",
    message: str = "Push with hf_vivae",
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Send files in one commit to a repository that is there; the commit's address.

    Args:
        files: by their path in the repository.
        repo: `owner/name`.
        kind: of the repository.
        message: of the commit.
        revision: branch; `main` by default.
        token: see `check_access`.

    Raises:
        ValueError: where the Hub refuses, or cannot be reached to the end.
    """
    api = HfApi(token=token)

    def commit() -> str:
        additions = [CommitOperationAdd(path, content) for path, content in files.items()]
        return api.create_commit(repo, additions, commit_message=message, repo_type=kind, revision=revision).commit_url

    return _persist(commit, repo)


def show_or_push(repos: Mapping[str, Mapping[str, Path | bytes]], kind: Kind, private: bool, send: bool) -> None:
    """Print the files of each repository with their sizes, and the card; then push them or print how.

    Args:
        repos: files by their path, for each `owner/name`.
        kind: of the repositories.
        private: visibility of a repository that is made.
        send: push the files.

    Raises:
        UserError: see `make_repo` and `push`.
    """
    for repo, files in repos.items():
        print(f"{repo} ({kind}, {'private' if private else 'public'})")
        for name, content in sorted(files.items()):
            size = len(content) if isinstance(content, bytes) else content.stat().st_size
            print(f"  {size:>13,} bytes  {name}")
        card = files["README.md"]
        text = card.decode() if isinstance(card, bytes) else card.read_text(encoding="utf-8")
        print(f"\nREADME.md\n\n{text}\n")
    if not send:
        print("Nothing was sent; add --yes to push.\n")
        return
    for repo, files in repos.items():
        make_repo(repo, kind, private)
        print(f"pushed      {push(files, repo, kind)}\n")


def push_collection(name: str, repos: Sequence[str], private: bool = True) -> str:
    """Gather models in a collection, made where there is none; its address.

    Args:
        name: `owner/title`.
        repos: models that are there; those that the collection has stay in it.
        private: visibility of a collection that is made.

    Raises:
        ValueError: see `push`.
    """
    api = HfApi()
    owner, title = name.split("/")
    made = _persist(lambda: api.create_collection(title, namespace=owner, private=private, exists_ok=True), name)
    for repo in repos:
        _persist(lambda repo=repo: api.add_collection_item(made.slug, repo, "model", exists_ok=True), name)
    return made.url


def _persist(call: Callable[[], Answer], repo: str) -> Answer:
    """The answer of the Hub, which is asked again where it is busy or the connection is cut."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except HfHubHTTPError as error:
            status, failure = error.response.status_code, error
            if status < 500 and status not in BUSY:
                raise UserError(_refusal(error, repo)) from error
            found = f"HTTP {status}"
        except json.JSONDecodeError as error:
            found, failure = "an answer that is not the Hub's", error
        except (HTTPError, RuntimeError) as error:  # RuntimeError: the library gave an upload up
            found, failure = f"a connection that was cut ({type(error).__name__})", error
        if attempt < ATTEMPTS:
            time.sleep(WAIT_SECONDS * 2 ** (attempt - 1))
    raise UserError(f"expected the Hub to answer for {repo}, found {found}; {AGAIN}.") from failure


def _refusal(error: HfHubHTTPError, repo: str) -> str:
    status = error.response.status_code
    if status == 401:
        return (
            "expected a Hugging Face token that is valid, found one that the Hub does not know; log in with "
            "`hf auth login`, or correct HF_TOKEN."
        )
    if status in (403, 404):
        return (
            f"expected a token that may write to {repo}, found one that may not; give it that right, or another name."
        )
    reason = (error.server_message or str(error)).strip().splitlines()[0]
    return f"expected the Hub to take {repo}, found a refusal ({status}: {reason}); correct what it names."
