"""Weights that a repository keeps as a pickle, in the safetensors that the Hub's converter has made of them.

It opens a pull request, which many repositories have and have not merged. Anyone may open one of the same title: it is
the author that counts.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, ModelInfo, constants
from huggingface_hub.errors import HfHubHTTPError

from .corpus.download import cache_folder
from .validation import UserError

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
    note = _note(repo)
    note.parent.mkdir(parents=True, exist_ok=True)
    written = note.with_name(f"{note.name}.{os.getpid()}")  # another process may be reading
    written.write_text(commit)
    os.replace(written, note)


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
