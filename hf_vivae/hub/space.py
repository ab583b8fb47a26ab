"""Files of a Space that serves models by this package's web page."""

from collections.abc import Sequence
from importlib.metadata import requires
from pathlib import Path

from huggingface_hub.repocard import RepoCard
from packaging.requirements import Requirement

from ..validation import UserError
from .arguments import PushArguments
from .client import check_name, show_or_push

PACKAGE = Path(__file__).parents[1]


def push_space(arguments: PushArguments, demo: Path) -> None:
    """Show the files of a Space that serves the models `arguments.runs`; with `yes`, push them.

    Args:
        arguments: as parsed by `parse_push`.
        demo: folder `demo/`.

    Raises:
        UserError: see `space_files` and `push`.
    """
    files = space_files(demo, arguments.runs)
    show_or_push({arguments.repo: files}, "space", not arguments.public, arguments.yes)


def space_files(demo: Path, checkpoints: Sequence[str]) -> dict[str, Path | bytes]:
    """Return the files of a Space by path: page, card, requirements, ids of the models and this package.

    Args:
        demo: folder `demo/`.
        checkpoints: Hub ids of models, one of which the user of the page chooses.

    Raises:
        UserError: for a checkpoint that is not a Hub id, such as a folder, which the Space could not load.
    """
    for checkpoint in checkpoints:
        if Path(checkpoint).exists() or "/" not in checkpoint:
            raise UserError(
                f"expected the Hub id of a model (owner/name) for a Space, found {checkpoint}; push the model first, "
                "and give its id."
            )
        check_name(checkpoint)
    card = RepoCard.load(demo / "README.md")
    card.data["models"] = list(checkpoints)
    code = sorted(file for file in PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {
        "app.py": demo / "app.py",
        "README.md": str(card).encode(),
        "checkpoints.txt": "".join(f"{checkpoint}\n" for checkpoint in checkpoints).encode(),
        "requirements.txt": "".join(f"{line}\n" for line in requirements()).encode(),
        **{f"{PACKAGE.name}/{file.relative_to(PACKAGE).as_posix()}": file for file in code},
    }


def requirements() -> list[str]:
    """Return the requirements of this package and its page, one per line of `requirements.txt`."""
    parsed = map(Requirement, requires("hf_vivae") or [])
    return sorted(
        f"{entry.name}{entry.specifier}"
        for entry in parsed
        if entry.marker is None or entry.marker.evaluate({"extra": "demo"})
    )
