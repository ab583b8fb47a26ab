"""A Space of the Hub: the page of `hf-vivae demo`, with this package beside it, since no index has it."""

from collections.abc import Sequence
from importlib.metadata import requires
from pathlib import Path

from huggingface_hub.repocard import RepoCard
from packaging.requirements import Requirement

from .hub import check_name
from .validation import UserError

PACKAGE = Path(__file__).parent


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
