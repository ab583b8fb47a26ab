"""Folders of checkpoints by name: local folders, the Hub, its cache, and weights converted to safetensors."""

import logging
import re
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
from ..models import REGISTERED, split_name
from ..models.backbones import BACKBONES, encoder_source
from ..network import NetworkError, check_reachable
from ..validation import UserError, did_you_mean

COMMIT = re.compile("[0-9a-f]{40}")
CONVERTER = "SFconvertbot"
CONVERTER_PAGE = "https://huggingface.co/spaces/safetensors/convert"
TITLE = "Adding `safetensors` variant of this model"
READ = (".json", ".py", ".bin")  # files that define the network; cards and licences may differ
BUSY = 429  # as from 500 on, the Hub can be reached and does not serve now

logger = logging.getLogger(__name__)


class _NotServedError(Exception):
    """The reason why the Hub does not serve a repository now."""


def starting_point(name: str, model_name_or_path: str | None = None) -> str | None:
    """Return the folder or Hub id of a model's starting weights; None where they are always random.

    Args:
        name: a key of `REGISTERED`; or a name of `BACKBONES`, a folder or a Hub id, perhaps after `probe:` or
            `encoder:`.
        model_name_or_path: folder or Hub id of weights for a named model, instead of its usual ones.
    """
    return model_name_or_path or (REGISTERED[name].pretrained if name in REGISTERED else encoder_source(name))


def find_checkpoint(
    name: str, model_name_or_path: str | None = None, from_scratch: bool = False, trust_remote_code: bool = False
) -> Path | None:
    """Return the folder of a model's starting weights, downloaded if need be; None for random weights.

    Args:
        name: as for `starting_point`.
        model_name_or_path: folder or Hub id of weights for a named model, instead of its usual ones.
        from_scratch: start a named model from random weights; of others, take the configuration only.
        trust_remote_code: download the checkpoint's Python files too.

    Raises:
        UserError: see `resolve_checkpoint`; and for other weights of a model that is a folder or Hub id itself.
    """
    if name in REGISTERED:
        source = None if from_scratch else starting_point(name, model_name_or_path)
        return resolve_checkpoint(source) if source else None
    encoder, names = split_name(name)[1], (*REGISTERED, *BACKBONES)
    if model_name_or_path and encoder not in BACKBONES:
        raise UserError(
            f"expected --model_name_or_path with one of {', '.join(names)}, found it with --model "
            f"{name}; give one of the two."
        )
    if "/" not in encoder and encoder not in BACKBONES and not is_folder(encoder):
        raise UserError(
            f"expected one of {', '.join(names)}, a checkpoint folder or a Hub id (owner/name), found {name!r}"
            f"{did_you_mean(encoder, names)}; check the spelling."
        )
    source = starting_point(name, model_name_or_path)
    return resolve_checkpoint(source, code=trust_remote_code, weights=not from_scratch)


def resolve_checkpoint(
    id_or_folder: str, code: bool = False, revision: str | None = None, weights: bool = True
) -> Path:
    """Return the local folder of a checkpoint, downloaded unless the cache has the newest version.

    The Hub is asked each time whether there is a newer version, unless `HF_HUB_OFFLINE` is set or `revision` is a
    commit that the cache has. Where the Hub cannot be reached, the cached version is used, with a warning. Folders
    inside a repository are not downloaded. Where the main branch has its weights as a pickle only, those of the Hub's
    converter are taken instead, with a warning (see `find_conversion`).

    Args:
        id_or_folder: a folder, or a Hub id such as `facebook/wav2vec2-base-960h`.
        code: download the checkpoint's Python files too.
        revision: branch, tag or commit (40 hexadecimal digits) of a Hub id; by default the main branch.
        weights: download the weights; configurations alone make an untrained model.

    Raises:
        UserError: for a name that is neither a folder nor cached where the Hub does not have it or cannot be reached
            (within seconds, rather than after the library's retries, which take most of a minute), and for weights
            that are a pickle and not converted.
    """
    if is_folder(id_or_folder):
        if revision is not None:
            raise UserError(
                f"expected a Hub id (owner/name) with revision {revision!r}, found the folder {id_or_folder}; leave "
                "out one of the two."
            )
        return Path(id_or_folder)
    if "/" not in id_or_folder:
        raise UserError(
            f"expected a checkpoint folder or a Hub id (owner/name), found {id_or_folder!r}; check the spelling."
        )
    # predictions.parquet names the clips that trained a run, which `evaluate --data` leaves out
    patterns = ["*.json", "predictions.parquet", *(["*.safetensors"] if weights else []), *(["*.py"] if code else [])]
    files = {"allow_patterns": patterns, "ignore_patterns": ["*/*"]}
    cached = _find_cached(id_or_folder, revision, files)
    if cached is None and not revision and (commit := remembered(id_or_folder)):
        cached = _find_cached(id_or_folder, commit, files)
    if cached and (constants.is_offline_mode() or COMMIT.fullmatch(revision or "")):
        return cached
    try:
        conversion = _ask_hub(id_or_folder, revision, weights)
    except _NotServedError as failure:
        if cached is None:
            raise UserError(
                f"{id_or_folder!r} is neither a folder nor in the cache, and {failure}; download it elsewhere and "
                "give its folder, or start one of the paper's models with --from_scratch."
            ) from failure
        logger.warning("%s is taken from the cache (commit %.7s), for %s.", id_or_folder, cached.name, failure)
        return cached
    folder = _download(id_or_folder, conversion or revision, files)
    if conversion:
        remember(id_or_folder, conversion)
    return folder


def is_folder(path: str) -> bool:
    """Return True if there is a folder of this name.

    Raises:
        UserError: where the system does not answer, as in a folder that may not be read.
    """
    try:
        return Path(path).is_dir()
    except OSError as error:
        raise UserError(
            f"expected a checkpoint folder that can be read or a Hub id (owner/name), found {path!r} "
            f"({error.strerror}); check the path and its permissions."
        ) from error


def _find_cached(repo: str, revision: str | None, files: dict[str, Any]) -> Path | None:
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


def _ask_hub(repo: str, revision: str | None, weights: bool) -> str | None:
    """Return the commit to take instead of the main branch, whose weights are a pickle; None where they are not.

    Raises:
        UserError: where the Hub has no such repository or revision, or no weights that are read.
        _NotServedError: where it does not serve now.
    """
    if constants.is_offline_mode():
        raise _NotServedError("HF_HUB_OFFLINE is set")
    try:
        check_reachable(constants.ENDPOINT)
        # before the download, which falls back to the cache without a message where the Hub refuses it
        info = HfApi().model_info(
            repo, revision=revision, files_metadata=True, timeout=constants.DEFAULT_REQUEST_TIMEOUT
        )
        if revision or not weights or has_safetensors(info):
            return None
        commit = find_conversion(info)
    except NetworkError as error:
        raise _NotServedError(f"there is {error.found}") from error
    except HfHubHTTPError as error:
        if is_busy(error):
            raise _NotServedError(f"the Hub answers HTTP {error.response.status_code}") from error
        raise _refusal(repo, revision, error) from error
    except HTTPError as error:
        raise _NotServedError(f"the Hub gives no answer ({type(error).__name__})") from error
    if commit is None:
        pickles = sorted(name for name in _contents(info) if name.endswith(".bin"))
        raise UserError(
            f"expected weights of {repo} as safetensors, found {' and '.join(pickles) or 'none'} (pickles are not "
            f"read) and no open pull request of {CONVERTER} that converts them; open one at {CONVERTER_PAGE}, or give "
            "the folder of a converted copy."
        )
    logger.warning(
        "%s has its weights as a pickle; those that %s converted are taken (commit %.7s).", repo, CONVERTER, commit
    )
    return commit


def _download(repo: str, revision: str | None, files: dict[str, Any]) -> Path:
    try:
        return Path(snapshot_download(repo, revision=revision, **files))
    except (HTTPError, OSError) as error:
        # the library wraps refusals of single files, and the reason of a cut download, in an error of its own
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


def is_busy(error: HfHubHTTPError) -> bool:
    """Return True if the Hub may serve later what it refuses now."""
    return error.response.status_code == BUSY or error.response.status_code >= 500


def find_conversion(main: ModelInfo) -> str | None:
    """Return the commit of the newest pull request that converts the weights of the main branch; None without one.

    The pull request is open, written by the converter, and changes no file that is read: so its safetensors were
    converted from the pickle that is on the main branch today, and its code, if any, is the owner's.

    Args:
        main: the repository at its main branch, with the metadata of its files.

    Raises:
        HfHubHTTPError: where the Hub does not serve now.
        httpx.HTTPError: where it gives no answer.
    """
    api, kept = HfApi(), _files_of_network(main)
    try:
        for request in api.get_repo_discussions(
            main.id, author=CONVERTER, discussion_type="pull_request", discussion_status="open"
        ):
            # asked of the Hub already, but a mirror may ignore a filter that it does not know
            if (request.author, request.title, request.status) != (CONVERTER, TITLE, "open"):
                continue
            commit = api.model_info(
                main.id,
                revision=request.git_reference,
                files_metadata=True,
                timeout=constants.DEFAULT_REQUEST_TIMEOUT,
            )
            # without the metadata of files, which a mirror may leave out, their contents are not known
            if has_safetensors(commit) and None not in kept.values() and _files_of_network(commit) == kept:
                return commit.sha
    except HfHubHTTPError as error:  # pull requests can be switched off, which the Hub answers with 403
        if is_busy(error):
            raise
    return None


def has_safetensors(info: ModelInfo) -> bool:
    """Return True if a revision of a repository has weights as safetensors, outside of folders."""
    return any(name.endswith(".safetensors") for name in _contents(info))


def _contents(info: ModelInfo) -> dict[str, str | None]:
    """Return name and git id of each file outside of folders."""
    return {file.rfilename: file.blob_id for file in info.siblings if "/" not in file.rfilename}


def _files_of_network(info: ModelInfo) -> dict[str, str | None]:
    """Return name and git id of the files that a conversion leaves unchanged."""
    files = {name: content for name, content in _contents(info).items() if name.endswith(READ)}
    files.pop("model.safetensors.index.json", None)
    return files


def remember(repo: str, commit: str) -> None:
    """Note which commit of a repository's pull requests was taken, for use without the Hub."""
    write_text(_note(repo), commit)


def remembered(repo: str) -> str | None:
    """Return the commit that was taken last; None where there was none.

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
