"""Where a model starts from: the folder of a checkpoint, fetched from the Hub if need be."""

from difflib import get_close_matches
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from .corpus.download import NetworkError, check_reachable
from .models import MODELS, PROBE


def resolve_checkpoint(id_or_folder: str, code: bool = False) -> Path:
    """The local folder of a checkpoint: as given, from the cache, or downloaded from the Hub.

    Args:
        id_or_folder: a folder, or a Hub id such as `facebook/wav2vec2-base-960h`.
        code: fetch the checkpoint's Python files too.

    Raises:
        ValueError: where it is neither a folder nor cached and the Hub does not have it or cannot be reached; said
            within seconds, and not after the library's retries, which take most of a minute.
    """
    if Path(id_or_folder).is_dir():
        return Path(id_or_folder)
    if "/" not in id_or_folder:
        raise ValueError(
            f"expected a checkpoint folder or a Hub id (owner/name), found {id_or_folder!r}; check the spelling."
        )
    patterns = ["*.json", "*.safetensors", *(["*.py"] if code else [])]
    try:
        cached = Path(snapshot_download(id_or_folder, local_files_only=True, allow_patterns=patterns))
        if any(cached.glob("*.safetensors")):
            return cached
    except HFValidationError as error:
        raise ValueError(
            f"expected a checkpoint folder or a Hub id (owner/name), found {id_or_folder!r}; check the path."
        ) from error
    except LocalEntryNotFoundError:
        pass
    _check_hub_is_reachable(id_or_folder)
    try:
        return Path(snapshot_download(id_or_folder, allow_patterns=patterns))
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"expected a checkpoint folder or a Hub id that can be downloaded, found {id_or_folder!r} ({reason}); "
            "check the name, or log in with `hf auth login` if it is private or gated."
        ) from error


def _check_hub_is_reachable(id_or_folder: str) -> None:
    cure = "download it elsewhere and give its folder, or start one of the report's models with --from_scratch."
    if constants.is_offline_mode():
        raise ValueError(f"{id_or_folder!r} is neither a folder nor in the cache, and HF_HUB_OFFLINE is set; {cure}")
    try:
        check_reachable(constants.ENDPOINT)
    except NetworkError as error:
        raise ValueError(
            f"{id_or_folder!r} is neither a folder nor in the cache, and there is {error.found}; {cure}"
        ) from error


def find_checkpoint(
    name: str, model_name_or_path: str | None = None, from_scratch: bool = False, trust_remote_code: bool = False
) -> Path | None:
    """The folder that a model starts from, fetched if need be; None for a named model from random weights.

    Args:
        name: a key of `MODELS`, or a folder or Hub id, for a probe after `probe:`.
        model_name_or_path: folder or Hub id of weights for a named model, instead of its usual ones.
        from_scratch: start a named model from random weights.
        trust_remote_code: fetch the checkpoint's Python files too.

    Raises:
        ValueError: see `resolve_checkpoint`; and for weights of a model that brings its own.
    """
    if name not in MODELS:
        if model_name_or_path:
            raise ValueError(
                f"expected --model_name_or_path beside one of {', '.join(MODELS)}, found it beside --model {name}; "
                "give one of the two."
            )
        if "/" not in name and not name.startswith(PROBE) and not Path(name).is_dir():
            close = get_close_matches(name, MODELS, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(
                f"expected one of {', '.join(MODELS)}, a checkpoint folder or a Hub id (owner/name), found {name!r}"
                f"{hint}; check the spelling."
            )
        return resolve_checkpoint(name.removeprefix(PROBE), code=trust_remote_code)
    source = None if from_scratch else model_name_or_path or MODELS[name].pretrained
    return resolve_checkpoint(source) if source else None
