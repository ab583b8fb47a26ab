"""The ingredients of a recipe: what takes each away, what was tried on top, and which lines an ablation keeps."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .corpus.schema import check_choice
from .evaluation.fold_folders import GROUPING, SEEDS
from .models import MODELS, SpectrogramViTConfig
from .parsing import recipe_file
from .validation import UserError

SECTIONS = ("without", "with")  # what is taken away from the recipe, and what was tried on top of it
KEPT = "kept"  # lines of the recipe that no row takes away, each with the reason
SPECTROGRAM_VITS = [name for name, spec in MODELS.items() if spec.config_class is SpectrogramViTConfig]
# the same for all
FIXED = {
    *GROUPING, *SEEDS, "model", "recipe", "duplicates", "num_groups", "folds", "output_dir", "trust_remote_code",
}  # fmt: skip


@dataclass(frozen=True)
class Ingredients:
    """What `recipes/ablation/<model>.yaml` says.

    Args:
        changes: settings by the name of their row, `without <ingredient>` or `with <ingredient>`.
        kept: by lines of the recipe that no row takes away, why.
    """

    changes: dict[str, dict[str, Any]]
    kept: dict[str, str]

    def choose(self, names: Sequence[str] | None) -> dict[str, dict[str, Any]]:
        """The changes of some ingredients, in the order of the file; all without names.

        Raises:
            ValueError: for a name that there is not.
        """
        known = {row: row.split(" ", 1)[1] for row in self.changes}
        for name in names or ():
            check_choice("--ingredients", name, list(known.values()))
        return {row: self.changes[row] for row, name in known.items() if names is None or name in names}

    def say_kept(self) -> str:
        """A sentence on what the table says nothing of."""
        return f"No row takes away: {'; '.join(f'{key} ({why})' for key, why in self.kept.items())}."


def read_ingredients(recipes: Path, model: str) -> Ingredients:
    """The ingredients of a model's recipe.

    Args:
        recipes: folder of the recipes.
        model: a model that recipes are for.

    Raises:
        ValueError: where there is no such file, or it does not hold ingredients.
    """
    file = ingredients_file(recipes, model)
    if not file.is_file():
        raise UserError(
            f"expected the ingredients of {model} in {file}, found no such file; write it, or give one of "
            f"{', '.join(SPECTROGRAM_VITS)} or an encoder as --model."
        )
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not valid YAML ({' '.join(str(error).split())}); mend it.") from error
    _check_content(file, content)
    rows = {f"{part} {name}": settings for part in SECTIONS for name, settings in content.get(part, {}).items()}
    _check_rows(file, rows)
    return Ingredients(rows, content.get(KEPT, {}))


def ingredients_file(recipes: Path, model: str) -> Path:
    """The file of a model: its own, or that of its kind, `vit` or `encoder`."""
    file = recipe_file(recipes / "ablation", model)
    return file if file.is_file() or model not in SPECTROGRAM_VITS else file.with_name("vit.yaml")


def row_folder(row: str) -> str:
    """Name of the folder with the runs of a row."""
    return re.sub(r"[^\w.]+", "-", row)


def _check_content(file: Path, content: Any) -> None:
    fits = isinstance(content, dict) and content.keys() <= {*SECTIONS, KEPT} and _all(content, dict)
    fits = fits and all(_all(content.get(part, {}), dict) for part in SECTIONS) and _all(content.get(KEPT, {}), str)
    if not fits:
        raise UserError(
            f"expected {file} to hold 'without' or 'with', and below them ingredients with their settings, and "
            f"reasons below '{KEPT}', found {str(content)[:60]!r}; mend it."
        )


def _all(content: Mapping[str, Any], kind: type) -> bool:
    return all(isinstance(value, kind) for value in content.values())


def _check_rows(file: Path, rows: Mapping[str, dict[str, Any]]) -> None:
    folders: dict[str, str] = {}
    for row, settings in rows.items():
        if fixed := sorted(settings.keys() & FIXED):
            raise UserError(
                f"expected ingredients in {file} that leave clips, folds and seeds as they are, found {fixed[0]} in "
                f"{row!r}; remove it."
            )
        if not isinstance(settings.get("model_config", {}), dict):
            raise UserError(
                f"expected fields of the model's configuration as model_config in {file}, found "
                f"{settings['model_config']!r} in {row!r}; give each field its value."
            )
        other = folders.setdefault(row_folder(row), row)
        if other != row:
            raise UserError(
                f"expected ingredients in {file} whose folders have names of their own, found {row_folder(row)} for "
                f"{other!r} and {row!r}; rename one of them."
            )
