"""Where a model starts from: the folder of a checkpoint, fetched from the Hub if need be."""

import logging
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RevisionNotFoundError,
)

from .backbones import BACKBONES, encoder_source
from .corpus.download import NetworkError, check_reachable
from .models import MODELS, split_name

COMMIT = re.compile("[0-9a-f]{40}")
BUSY = 429  # and from 500 on: the Hub is there, but does not serve now

logger = logging.getLogger(__name__)


def resolve_checkpoint(id_or_folder: str, code: bool = False, revision: str | None = None) -> Path:
    """The local folder of a checkpoint: as given, or downloaded from the Hub unless the cache has what lies there.

    The Hub is asked each time whether there is something newer, unless `HF_HUB_OFFLINE` is set or `revision` is a
    commit that the cache has. Where it cannot be reached, what the cache has is used, with a warning. Folders of a
    repo are left there.

    Args:
        id_or_folder: a folder, or a Hub id such as `facebook/wav2vec2-base-960h`.
        code: fetch the checkpoint's Python files too.
        revision: branch, tag or commit (40 hexadecimal digits) of a Hub id; by default the main branch.

    Raises:
        ValueError: where it is neither a folder nor cached and the Hub does not have it or cannot be reached; said
            within seconds, and not after the library's retries, which take most of a minute.
    """
    if Path(id_or_folder).is_dir():
        if revision is not None:
            raise ValueError(
                f"expected a Hub id (owner/name) beside revision {revision!r}, found the folder {id_or_folder}; leave "
                "out one of the two."
            )
        return Path(id_or_folder)
    if "/" not in id_or_folder:
        raise ValueError(
            f"expected a checkpoint folder or a Hub id (owner/name), found {id_or_folder!r}; check the spelling."
        )
    patterns = ["*.json", "*.safetensors", *(["*.py"] if code else [])]
    files = {"allow_patterns": patterns, "ignore_patterns": ["*/*"]}
    cached = _cached(id_or_folder, revision, files)
    if cached and (constants.is_offline_mode() or COMMIT.fullmatch(revision or "")):
        return cached
    failure = _why_unreachable(id_or_folder, revision)
    if failure is None:
        return _download(id_or_folder, revision, files)
    if cached is None:
        raise ValueError(
            f"{id_or_folder!r} is neither a folder nor in the cache, and {failure}; download it elsewhere and give "
            "its folder, or start one of the report's models with --from_scratch."
        )
    logger.warning("%s is taken from the cache (commit %.7s), for %s.", id_or_folder, cached.name, failure)
    return cached


def _cached(repo: str, revision: str | None, files: dict[str, Any]) -> Path | None:
    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True, **files))
    except HFValidationError as error:
        raise ValueError(
            f"expected a checkpoint folder or a Hub id (owner/name), found {repo!r}; check the path."
        ) from error
    except LocalEntryNotFoundError:
        return None
    return folder if any(folder.glob("*.safetensors")) else None


def _why_unreachable(repo: str, revision: str | None) -> str | None:
    """What keeps the Hub from serving a repo just now; None where it would.

    Raises:
        ValueError: where it answers that there is no such repo or revision.
    """
    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    try:
        check_reachable(constants.ENDPOINT)
        # first, since a download that is refused falls back to the cache without a word
        HfApi().model_info(repo, revision=revision, timeout=constants.DEFAULT_REQUEST_TIMEOUT)
    except NetworkError as error:
        return f"there is {error.found}"
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status < 500 and status != BUSY:
            raise _refusal(repo, revision, error) from error
        return f"the Hub answers HTTP {status}"
    except HTTPError as error:
        return f"the Hub gives no answer ({type(error).__name__})"
    return None


def _download(repo: str, revision: str | None, files: dict[str, Any]) -> Path:
    try:
        return Path(snapshot_download(repo, revision=revision, **files))
    except (HTTPError, OSError) as error:
        # the library hides refusals of single files, and what cut a download, behind one of its own
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
        if isinstance(cause, HfHubHTTPError) and cause.response.status_code < 500:
            raise _refusal(repo, revision, cause) from error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise ValueError(
            f"expected a whole download of {repo!r}, found it cut ({reason}); try again, what has arrived is kept."
        ) from error


def _refusal(repo: str, revision: str | None, error: HfHubHTTPError) -> ValueError:
    if isinstance(error, RevisionNotFoundError):
        return ValueError(f"expected a branch, tag or commit of {repo}, found none called {revision!r}; correct it.")
    return ValueError(
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
        raise ValueError(
            f"expected --model_name_or_path beside one of {', '.join((*MODELS, *BACKBONES))}, found it beside --model "
            f"{name}; give one of the two."
        )
    if "/" not in place and place not in BACKBONES and not Path(place).is_dir():
        close = get_close_matches(place, (*MODELS, *BACKBONES), 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(
            f"expected one of {', '.join((*MODELS, *BACKBONES))}, a checkpoint folder or a Hub id (owner/name), found "
            f"{name!r}{hint}; check the spelling."
        )
    return resolve_checkpoint(starting_point(name, model_name_or_path), code=trust_remote_code)
