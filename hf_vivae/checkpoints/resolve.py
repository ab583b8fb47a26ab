"""Checkpoint names to folders: local folders, the Hub, its cache, and weights converted to safetensors."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelInfo, constants, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RevisionNotFoundError,
)

from ..files import cache_folder, write_text
from ..models import MODELS, split_name
from ..models.backbones import BACKBONES, encoder_source
from ..network import NetworkError, check_reachable
from ..validation import UserError, did_you_mean

COMMIT = re.compile("[0-9a-f]{40}")

logger = logging.getLogger(__name__)


class _NotServedError(Exception):
    """What keeps the Hub from serving a repo just now."""


def resolve_checkpoint(
    id_or_folder: str, code: bool = False, revision: str | None = None, weights: bool = True
) -> Path:
    """The local folder of a checkpoint: as given, or downloaded from the Hub unless the cache has what lies there.

    The Hub is asked each time whether there is something newer, unless `HF_HUB_OFFLINE` is set or `revision` is a
    commit that the cache has. Where it cannot be reached, what the cache has is used, with a warning. Folders of a
    repo are left there. Where the main branch has its weights as a pickle only, what the Hub's converter made of them
    is taken instead, with a warning (see `find_conversion`).

    Args:
        id_or_folder: a folder, or a Hub id such as `facebook/wav2vec2-base-960h`.
        code: fetch the checkpoint's Python files too.
        revision: branch, tag or commit (40 hexadecimal digits) of a Hub id; by default the main branch.
        weights: fetch the weights; configurations alone make an untrained model.

    Raises:
        ValueError: where it is neither a folder nor cached and the Hub does not have it or cannot be reached; said
            within seconds, and not after the library's retries, which take most of a minute. And where its weights
            are a pickle, and not converted.
    """
    if is_folder(id_or_folder):
        if revision is not None:
            raise UserError(
                f"expected a Hub id (owner/name) beside revision {revision!r}, found the folder {id_or_folder}; leave "
                "out one of the two."
            )
        return Path(id_or_folder)
    if "/" not in id_or_folder:
        raise UserError(
            f"expected a checkpoint folder or a Hub id (owner/name), found {id_or_folder!r}; check the spelling."
        )
    return _fetch(id_or_folder, code, revision, weights)


def is_folder(path: str) -> bool:
    """Tell whether there is a folder of this name.

    Raises:
        UserError: where the system does not say, as below a folder that may not be read.
    """
    try:
        return Path(path).is_dir()
    except OSError as error:
        raise UserError(
            f"expected a checkpoint folder that can be read or a Hub id (owner/name), found {path!r} "
            f"({error.strerror}); check the path and its permissions."
        ) from error


def _fetch(repo: str, code: bool, revision: str | None, weights: bool) -> Path:
    # predictions.parquet names the clips that trained a run, which `evaluate --data` leaves out
    patterns = ["*.json", "predictions.parquet", *(["*.safetensors"] if weights else []), *(["*.py"] if code else [])]
    files = {"allow_patterns": patterns, "ignore_patterns": ["*/*"]}
    cached = _cached(repo, revision, files)
    if cached and (constants.is_offline_mode() or COMMIT.fullmatch(revision or "")):
        return cached
    try:
        converted = _find_converted(repo, revision, weights)
    except _NotServedError as failure:
        if cached is None:
            raise UserError(
                f"{repo!r} is neither a folder nor in the cache, and {failure}; download it elsewhere and "
                "give its folder, or start one of the report's models with --from_scratch."
            ) from failure
        logger.warning("%s is taken from the cache (commit %.7s), for %s.", repo, cached.name, failure)
        return cached
    folder = _download(repo, converted or revision, files)
    if converted:
        remember(repo, converted)
    return folder


def _cached(repo: str, revision: str | None, files: dict[str, Any]) -> Path | None:
    """The folder of a revision, or of the conversion that was taken for its main branch."""
    found = _snapshot(repo, revision, files)
    converted = None if found or revision else remembered(repo)
    return _snapshot(repo, converted, files) if converted else found


def _snapshot(repo: str, revision: str | None, files: dict[str, Any]) -> Path | None:
    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True, **files))
    except HFValidationError as error:
        raise UserError(
            f"expected a checkpoint folder or a Hub id (owner/name), found {repo!r}; check the path."
        ) from error
    except LocalEntryNotFoundError:
        return None
    needed = "*.safetensors" if "*.safetensors" in files["allow_patterns"] else "config.json"
    return folder if any(folder.glob(needed)) else None


def _find_converted(repo: str, revision: str | None, weights: bool) -> str | None:
    """The commit to take in place of the main branch, whose weights are a pickle; None where there is no need.

    Raises:
        ValueError: where the Hub answers that there is no such repo or revision, or where there is nothing to take.
        _NotServedError: where it does not serve just now.
    """
    with _served(repo, revision):
        # first, since a download that is refused falls back to the cache without a word
        info = HfApi().model_info(
            repo, revision=revision, files_metadata=True, timeout=constants.DEFAULT_REQUEST_TIMEOUT
        )
        if revision or not weights or has_safetensors(info):
            return None
        commit = find_conversion(info)
    if commit is None:
        found = " and ".join(pickles(info)) or "none"
        raise UserError(
            f"expected weights of {repo} as safetensors, found {found} (pickles are not read) and no open pull "
            f"request of {CONVERTER} that converts them; open one at {CONVERTER_PAGE}, or give the folder of a "
            "converted copy."
        )
    logger.warning(
        "%s has its weights as a pickle; taken is what %s has made of them (commit %.7s).", repo, CONVERTER, commit
    )
    return commit


@contextmanager
def _served(repo: str, revision: str | None) -> Iterator[None]:
    """Requests to the Hub, whose failures become ours."""
    if constants.is_offline_mode():
        raise _NotServedError("HF_HUB_OFFLINE is set")
    try:
        check_reachable(constants.ENDPOINT)
        yield
    except NetworkError as error:
        raise _NotServedError(f"there is {error.found}") from error
    except HfHubHTTPError as error:
        if is_busy(error):
            raise _NotServedError(f"the Hub answers HTTP {error.response.status_code}") from error
        raise _refusal(repo, revision, error) from error
    except HTTPError as error:
        raise _NotServedError(f"the Hub gives no answer ({type(error).__name__})") from error


def _download(repo: str, revision: str | None, files: dict[str, Any]) -> Path:
    try:
        return Path(snapshot_download(repo, revision=revision, **files))
    except (HTTPError, OSError) as error:
        # the library hides refusals of single files, and what cut a download, behind one of its own
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
        if isinstance(cause, HfHubHTTPError) and cause.response.status_code < 500:
            raise _refusal(repo, revision, cause) from error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(
            f"expected a whole download of {repo!r}, found it cut ({reason}); try again, what has arrived is kept."
        ) from error


def _refusal(repo: str, revision: str | None, error: HfHubHTTPError) -> UserError:
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"expected a branch, tag or commit of {repo}, found none called {revision!r}; correct it.")
    return UserError(
        f"expected a checkpoint folder or a Hub id that can be downloaded, found {repo!r} (HTTP "
        f"{error.response.status_code}); check the name, or log in with `hf auth login` if it is private or gated."
    )


def starting_point(name: str, model_name_or_path: str | None = None) -> str | None:
    """The folder or Hub id that a model's weights come from where they are not random; None where they always are.

    Args:
        name: a key of `MODELS`; or a name of `BACKBONES`, a folder or a Hub id, perhaps after `probe:` or `encoder:`.
        model_name_or_path: folder or Hub id of weights for a named model, instead of its usual ones.
    """
    usual = MODELS[name].pretrained if name in MODELS else encoder_source(name)
    return model_name_or_path or usual


def find_checkpoint(
    name: str, model_name_or_path: str | None = None, from_scratch: bool = False, trust_remote_code: bool = False
) -> Path | None:
    """The folder that a model starts from, fetched if need be; None for a named model from random weights.

    Args:
        name: as for `starting_point`.
        model_name_or_path: folder or Hub id of weights for a named model, instead of its usual ones.
        from_scratch: start a named model from random weights.
        trust_remote_code: fetch the checkpoint's Python files too.

    Raises:
        ValueError: see `resolve_checkpoint`; and for weights of a model that brings its own.
    """
    if name in MODELS:
        source = None if from_scratch else starting_point(name, model_name_or_path)
        return resolve_checkpoint(source) if source else None
    place = split_name(name)[1]
    if model_name_or_path and place not in BACKBONES:
        raise UserError(
            f"expected --model_name_or_path beside one of {', '.join((*MODELS, *BACKBONES))}, found it beside --model "
            f"{name}; give one of the two."
        )
    if "/" not in place and place not in BACKBONES and not is_folder(place):
        hint = did_you_mean(place, (*MODELS, *BACKBONES))
        raise UserError(
            f"expected one of {', '.join((*MODELS, *BACKBONES))}, a checkpoint folder or a Hub id (owner/name), found "
            f"{name!r}{hint}; check the spelling."
        )
    source = starting_point(name, model_name_or_path)
    return resolve_checkpoint(source, code=trust_remote_code, weights=not from_scratch)


CONVERTER = "SFconvertbot"
CONVERTER_PAGE = "https://huggingface.co/spaces/safetensors/convert"
TITLE = "Adding `safetensors` variant of this model"
READ = (".json", ".py", ".bin")  # what the network is made of; cards and licences may differ
BUSY = 429  # and from 500 on: the Hub is there, but does not serve now


def has_safetensors(info: ModelInfo) -> bool:
    """Whether a revision of a repository has weights as safetensors, its folders apart."""
    return any(name.endswith(".safetensors") for name in _contents(info))


def find_conversion(main: ModelInfo) -> str | None:
    """The commit of the newest pull request that converts what the main branch holds now; None where there is none.

    It is open, the converter's own, and changes no file that is read: so its safetensors were made of the pickle that
    is on the main branch today, and its code, if any, is the owner's.

    Args:
        main: the repository at its main branch, with the metadata of its files.

    Raises:
        HfHubHTTPError: where the Hub does not serve now.
        httpx.HTTPError: where it gives no answer.
    """
    try:
        for commit in _conversions(main.id):
            if _converts(commit, main):
                return commit.sha
    except HfHubHTTPError as error:  # pull requests can be switched off, which the Hub answers with 403
        if is_busy(error):
            raise
    return None


def is_busy(error: HfHubHTTPError) -> bool:
    """Whether the Hub may serve later what it refuses now."""
    return error.response.status_code == BUSY or error.response.status_code >= 500


def pickles(info: ModelInfo) -> list[str]:
    """Names of the files of a revision that may be pickled weights."""
    return sorted(name for name in _contents(info) if name.endswith(".bin"))


def remember(repo: str, commit: str) -> None:
    """Note which commit of a repository's pull requests was taken, for when the Hub cannot be asked."""
    write_text(_note(repo), commit)


def remembered(repo: str) -> str | None:
    """The commit that was taken last; None where there was none.

    Raises:
        UserError: for a cache that may not be read.
    """
    try:
        return _note(repo).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(
            f"expected a cache folder that can be read, found {_note(repo)} ({error.strerror}); change its "
            "permissions, or set HF_VIVAE_CACHE to another folder."
        ) from error


def _note(repo: str) -> Path:
    return cache_folder() / "conversions" / repo.replace("/", "--")


def _conversions(repo: str) -> Iterator[ModelInfo]:
    """The open pull requests of the converter, at their last commits."""
    api = HfApi()
    for request in api.get_repo_discussions(
        repo, author=CONVERTER, discussion_type="pull_request", discussion_status="open"
    ):
        # asked of the Hub already, but a mirror may leave out a filter that it does not know
        if request.author == CONVERTER and request.title == TITLE and request.status == "open":
            yield api.model_info(
                repo,
                revision=request.git_reference,
                files_metadata=True,
                timeout=constants.DEFAULT_REQUEST_TIMEOUT,
            )


def _converts(commit: ModelInfo, main: ModelInfo) -> bool:
    held = _read_files(main)
    # without the metadata of files, which a mirror may leave out, nothing is known of them
    return has_safetensors(commit) and None not in held.values() and _read_files(commit) == held


def _contents(info: ModelInfo) -> dict[str, str | None]:
    """Name and git id of each file outside of folders."""
    return {file.rfilename: file.blob_id for file in info.siblings if "/" not in file.rfilename}


def _read_files(info: ModelInfo) -> dict[str, str | None]:
    """Of `_contents`, what a conversion leaves as it is."""
    kept = {name: content for name, content in _contents(info).items() if name.endswith(READ)}
    kept.pop("model.safetensors.index.json", None)
    return kept
