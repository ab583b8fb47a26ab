"""Splits of a dataset of the Hub, a folder or a Parquet file, loaded by `datasets` with audio as it is stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..files import disk_errors
from ..network import NetworkError, check_reachable
from ..validation import UserError, did_you_mean

if TYPE_CHECKING:
    from datasets import Audio, Dataset, DatasetBuilder, Features
    from huggingface_hub import DatasetCardData


CARD = "README.md"
SAVED = ("dataset_dict.json", "state.json")  # files that `save_to_disk` writes
NO_SPLITS = "all"  # in place of the name of a split


def load_splits(name: str, config: str | None = None, revision: str | None = None) -> dict[str, Dataset]:
    """Return all splits of a dataset by name, memory-mapped, with audio as stored files that nothing decodes.

    Args:
        name: folder, Parquet file or Hub id (owner/name). A file, or a folder that `Dataset.save_to_disk` wrote, has
            one split called `NO_SPLITS`.
        config: configuration; by default the only or default one.
        revision: branch, tag or commit of a Hub id.

    Raises:
        UserError: for a dataset that is absent, private, gated, damaged or without data files, an unknown
            configuration or revision, and a Hub that cannot be reached.
    """
    from datasets import Audio, load_dataset

    if os.path.exists(name):
        loaded = _load_local(name, config, revision)
    else:
        loaded = _load_from_hub(name, config, revision, load_dataset)
    splits = {}
    for split, rows in loaded.items():
        for column in audio_columns(rows.features):
            rows = rows.cast_column(column, Audio(decode=False))
        splits[split] = rows
    return splits


def load_builder(name: str, config: str | None = None, revision: str | None = None) -> DatasetBuilder:
    """Return the builder of a dataset, which knows its files and reads none of them.

    Args:
        name: folder or Hub id (owner/name).
        config: configuration; by default the only or default one.
        revision: branch, tag or commit of a Hub id.

    Raises:
        UserError: as `load_splits`; for a folder that `save_to_disk` wrote, a file, and HF_HUB_OFFLINE.
    """
    from datasets import load_dataset_builder
    from huggingface_hub import constants

    if os.path.exists(name):
        _refuse_revision(name, revision)
        if not os.path.isdir(name) or any(os.path.isfile(os.path.join(name, file)) for file in SAVED):
            raise UserError(
                f"expected a folder of Parquet files or a Hub id (owner/name) as --dataset_name with --streaming, "
                f"found another at {name}; write it with `push.py --dataset`, or leave out --streaming."
            )
        return _load(os.path.realpath(name), name, config, load_dataset_builder)
    if constants.is_offline_mode():
        raise UserError(
            f"expected the Hub for --streaming of {name}, found HF_HUB_OFFLINE=1; unset it, or give the folder of a "
            "copy."
        )
    return _load_from_hub(name, config, revision, load_dataset_builder)


def audio_columns(features: Features) -> list[str]:
    """Return the columns of audio: of that type, or with the fields bytes and path, as pandas writes it."""
    from datasets import Audio

    return [
        column
        for column, feature in features.items()
        if isinstance(feature, Audio) or (isinstance(feature, Mapping) and {*feature} == {"bytes", "path"})
    ]


def read_card(name: str, revision: str | None = None) -> DatasetCardData | None:
    """Return the metadata of a dataset's card, after `load_splits`; None for a dataset without a card.

    Args:
        name: as for `load_splits`.
        revision: as for `load_splits`.
    """
    from huggingface_hub import DatasetCard, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from yaml import YAMLError

    try:
        if os.path.exists(name):
            card = os.path.join(name, CARD)
        else:
            card = hf_hub_download(name, CARD, repo_type="dataset", revision=revision)
        return DatasetCard.load(card).data if os.path.isfile(card) else None
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return None
    except (ValueError, YAMLError) as error:
        raise UserError(
            f"expected metadata in the card ({CARD}) of {name}, found none that can be read ({_first_line(error)}); "
            "correct it."
        ) from error


def _load_local(name: str, config: str | None, revision: str | None) -> Mapping[str, Dataset]:
    import pyarrow
    import pyarrow.parquet
    from datasets import DatasetDict, load_dataset, load_from_disk

    _refuse_revision(name, revision)
    if any(os.path.isfile(os.path.join(name, file)) for file in SAVED):
        _refuse_config(name, config)
        loaded = load_from_disk(name)
        return loaded if isinstance(loaded, DatasetDict) else {NO_SPLITS: loaded}
    if os.path.isdir(name):
        return _load(os.path.realpath(name), name, config, load_dataset)
    _refuse_config(name, config)
    try:
        pyarrow.parquet.read_schema(name)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(
            f"expected a folder, a Parquet file or a Hub id (owner/name) as --dataset_name, found another file at "
            f"{name} ({_first_line(error)}); give the folder of the dataset, or its Parquet file."
        ) from error
    return {NO_SPLITS: _load("parquet", name, None, load_dataset, data_files=os.path.realpath(name))["train"]}


def _refuse_revision(name: str, revision: str | None) -> None:
    if revision is not None:
        raise UserError(
            f"expected a Hub id with --dataset_revision, found {name} on the disk; leave out one of the two."
        )


def _refuse_config(name: str, config: str | None) -> None:
    if config is not None:
        raise UserError(
            f"expected --dataset_config with a dataset of several configurations, found {name}, which has none; leave "
            "it out."
        )


def _load_from_hub(name: str, config: str | None, revision: str | None, load: Callable[..., Any]) -> Any:
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        if "/" not in name:
            raise HFValidationError("no owner")
    except HFValidationError as error:
        raise UserError(
            f"expected a folder, a Parquet file or a Hub id (owner/name) as --dataset_name, found {name!r}; check the "
            "spelling."
        ) from error
    if constants.is_offline_mode():
        if revision is not None:  # `datasets` would take the newest copy in its cache, whatever its revision
            raise UserError(
                f"expected the Hub for --dataset_revision {revision}, found HF_HUB_OFFLINE=1, with which the newest "
                "copy in the cache is read; unset it, or leave out the revision."
            )
    else:
        try:
            check_reachable(constants.ENDPOINT)
        except NetworkError as error:
            raise UserError(
                f"expected the Hub for the dataset {name}, found {error.found}; check the network, or set "
                "HF_HUB_OFFLINE=1 to read a copy in the cache."
            ) from error
    return _load(name, name, config, load, revision=revision)


def _load(path: str, name: str, config: str | None, load: Callable[..., Any], **options: Any) -> Any:
    """Return the result of `load_dataset` or `load_dataset_builder`; errors name the dataset as the user did."""
    import pyarrow
    from datasets import config as settings
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HTTPError

    with disk_errors(settings.HF_DATASETS_CACHE, "free space, or set HF_HOME to a folder of another disk"):
        try:
            if path != "parquet":
                _check_config(path, name, config, options.get("revision"))
            with _audio_as_stored():
                return load(path, config, **options)
        except DatasetNotFoundError as error:
            raise _refusal(name, options.get("revision"), str(error)) from error
        except (DataFilesNotFoundError, EmptyDatasetError) as error:
            raise UserError(
                f"expected files of a dataset in {name}, found none that `datasets` loads; give the folder or the Hub "
                "id of a dataset of audio."
            ) from error
        except ConnectionError as error:
            if not settings.HF_HUB_OFFLINE:
                raise _cut(name, error) from error
            raise UserError(
                f"expected a copy of the dataset {name} in the cache, since HF_HUB_OFFLINE is set, found none; unset "
                "it, or download the dataset elsewhere and give its folder."
            ) from error
        except HTTPError as error:
            raise _cut(name, error) from error
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            raise UserError(
                f"expected data files in {name}, found a Python script, which `datasets` no longer executes; take the "
                "Hub's own conversion, if there is one, with --dataset_revision refs/convert/parquet."
            ) from error
        except UserError:
            raise
        except (DatasetsError, ValueError, pyarrow.ArrowException) as error:  # of the files, by any of their readers
            cause = error.__cause__ or error
            if isinstance(cause, OSError) and cause.errno is not None:
                raise cause from error
            raise UserError(
                f"expected files in {name} that `datasets` can load, found others ({type(cause).__name__}: "
                f"{_first_line(cause)}); correct them, or give another dataset."
            ) from error


def _check_config(path: str, name: str, config: str | None, revision: str | None) -> None:
    """Refuse a configuration that the dataset does not have, which `datasets` may take for a new one."""
    from datasets import config as settings
    from datasets import get_dataset_config_names, get_dataset_default_config_name

    if settings.HF_HUB_OFFLINE and not os.path.exists(path):
        return  # the cache has none of its own, and refuses an unknown one
    names = get_dataset_config_names(path, revision=revision)
    if config in names or (config is None and get_dataset_default_config_name(path, revision=revision) is not None):
        return
    found = "none" if config is None else f"{config!r}{did_you_mean(config, names)}"
    raise UserError(
        f"expected a configuration of {name} as --dataset_config ({', '.join(names)}), found {found}; give one of "
        "them."
    )


def _refusal(name: str, revision: str | None, reason: str) -> UserError:
    from huggingface_hub import constants

    if "is a gated dataset" in reason:
        return UserError(
            f"expected a dataset that your account may download, found that {name} is gated; ask for access at "
            f"{constants.ENDPOINT}/datasets/{name}, and log in with `hf auth login`."
        )
    if reason.startswith("Revision"):
        return UserError(
            f"expected a branch, tag or commit of {name} as --dataset_revision, found none called {revision!r}; "
            "correct it."
        )
    return UserError(
        f"expected a dataset of the Hub that can be downloaded, found none called {name!r}; check the name, or log in "
        "with `hf auth login` if it is private."
    )


def _cut(name: str, error: Exception) -> UserError:
    return UserError(
        f"expected a whole download of the dataset {name}, found it cut ({_first_line(error)}); try again, what has "
        "arrived is kept."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


@contextmanager
def _audio_as_stored() -> Iterator[None]:
    """Let `datasets` take over paths and bytes of audio without torchcodec, which needs FFmpeg.

    Folders of audio files and WebDatasets pass `Audio.encode_example`, which imports torchcodec for arrays, also where
    there are none (datasets 5.2).
    """
    from datasets import Audio

    encode = Audio.encode_example

    def take_over(feature: Audio, value: Any) -> dict[str, Any]:
        if isinstance(value, str):
            return {"bytes": None, "path": value}
        if isinstance(value, dict) and {*value} == {"bytes", "path"}:
            return value
        return encode(feature, value)

    Audio.encode_example = take_over
    try:
        yield
    finally:
        Audio.encode_example = encode
