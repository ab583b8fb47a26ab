"""Client of the Hub: each push is one commit, which is complete or absent and can be repeated.

An interrupted push does not send its files again, and a push without changes makes no commit.
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
Response = TypeVar("Response")

BUSY = (409, 412, 429)  # a concurrent commit, or too many requests
ATTEMPTS = 4
WAIT_SECONDS = 1.0  # after the first attempt, then doubled; the library repeats uploads too
AGAIN = "repeat the command; files that were sent are not sent again"
logger = logging.getLogger(__name__)


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the files of a checkpoint that are pushed: configurations, weights as safetensors, and their code.

    Other files are not pushed: no pickle, no optimizer state, no record with names of local folders.

    Raises:
        UserError: for a folder that lacks one of them, or has damaged weights.
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
            try:
                with safe_open(file, "pt"):
                    pass  # opening compares the header with the length of the file
            except SafetensorError as error:
                raise UserError(
                    f"expected whole weights in {file}, found damaged ones ({error}); train the run again."
                ) from error
    code = set()
    for config in configs:  # the files of `auto_map`, and those that they import
        for reference in read_json(config).get("auto_map", {}).values():
            module = config.parent / f"{reference.split('.')[0]}.py"
            if not module.is_file():  # also for code of another repository, `owner/name--module.Class`
                raise UserError(
                    f"expected the code of {config} in its folder, found no {module.name}; train the run again, or "
                    "save model and feature extractor with save_pretrained."
                )
            code |= {module, *map(Path, get_relative_import_files(module))}
    return [*configs, *weights, *sorted(code)]


def check_name(repo: str) -> str:
    """Return the name of a repository, with or without its owner, unchanged.

    Raises:
        UserError: for one that the Hub would refuse.
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
    """Return the full name of a repository, `owner/name`, after a check of the connection and the token.

    Args:
        repo: name with or without an owner; the default owner is that of the token.
        token: token of the Hub; by default that of `hf auth login` or `HF_TOKEN`.

    Raises:
        UserError: for an invalid name, a missing or invalid token, and without a network; within seconds.
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
    """Make a repository to push to, if there is none yet.

    Args:
        repo: `owner/name`.
        kind: type of the repository.
        private: make the repository private.
        revision: branch to make as well.
        token: see `check_access`.

    Raises:
        UserError: where the token may not write there, and for a public repository that should be private. A private
            repository stays private.
    """
    api = HfApi(token=token)
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}
    _persist(lambda: api.create_repo(repo, repo_type=kind, private=private, exist_ok=True, **sdk), repo)
    hidden = _persist(lambda: api.repo_info(repo, repo_type=kind).private, repo)
    if private and not hidden:
        raise UserError(
            f"expected {repo} to be private, found a public repository; allow that (push.py --public, "
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
    """Send files in one commit to an existing repository, and return the commit's URL.

    Args:
        files: files by their path in the repository.
        repo: `owner/name`.
        kind: type of the repository.
        message: message of the commit.
        revision: branch; `main` by default.
        token: see `check_access`.

    Raises:
        UserError: where the Hub refuses, or the connection fails repeatedly.
    """
    api = HfApi(token=token)

    def commit() -> str:
        additions = [CommitOperationAdd(path, content) for path, content in files.items()]
        return api.create_commit(repo, additions, commit_message=message, repo_type=kind, revision=revision).commit_url

    return _persist(commit, repo)


def show_or_push(repos: Mapping[str, Mapping[str, Path | bytes]], kind: Kind, private: bool, send: bool) -> None:
    """Print the files of each repository with their sizes, and the card; then push the files, or print how to.

    Args:
        repos: files by their path, for each `owner/name`.
        kind: type of the repositories.
        private: visibility of new repositories.
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
    """Add models to a collection, made if it does not exist, and return its URL.

    Args:
        name: `owner/title`.
        repos: models to add, which exist; other models of the collection stay.
        private: visibility of a new collection.

    Raises:
        UserError: see `push`.
    """
    api = HfApi()
    owner, title = name.split("/")
    collection = _persist(lambda: api.create_collection(title, namespace=owner, private=private, exists_ok=True), name)
    for repo in repos:
        _persist(lambda repo=repo: api.add_collection_item(collection.slug, repo, "model", exists_ok=True), name)
    return collection.url


def _persist(call: Callable[[], Response], repo: str) -> Response:
    """Return the response of a call, which is repeated if the Hub is busy or the connection is cut."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except HfHubHTTPError as error:
            status, failure = error.response.status_code, error
            reason = f"HTTP {status}"
            if status == 401:
                raise UserError(
                    "expected a valid Hugging Face token, found one that the Hub does not know; log in with "
                    "`hf auth login`, or correct HF_TOKEN."
                ) from error
            if status in (403, 404):
                raise UserError(
                    f"expected a token that may write to {repo}, found one that may not; give it that right, or "
                    "another name."
                ) from error
            if status < 500 and status not in BUSY:
                refusal = (error.server_message or str(error)).strip().splitlines()[0]
                raise UserError(
                    f"expected the Hub to take {repo}, found a refusal ({status}: {refusal}); correct that."
                ) from error
        except json.JSONDecodeError as error:
            reason, failure = "a response that is not the Hub's", error
        except (HTTPError, RuntimeError) as error:  # RuntimeError: the library stopped an upload
            reason, failure = f"a connection that was cut ({type(error).__name__})", error
        if attempt < ATTEMPTS:
            time.sleep(WAIT_SECONDS * 2 ** (attempt - 1))
    raise UserError(f"expected the Hub to answer for {repo}, found {reason}; {AGAIN}.") from failure
