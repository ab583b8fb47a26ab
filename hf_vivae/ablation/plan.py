"""Components of a recipe, and the variants that leave one out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..cli_parser import FlagParser
from ..evaluation.runs import GROUPING, SEEDS
from ..files import read_yaml
from ..models import MODELS, SpectrogramViTConfig, split_name
from ..models.backbones import BACKBONES, is_encoder, recipe_file
from ..run_folder import VOLATILE
from ..training.arguments import RunArguments, VivaeTrainingArguments
from ..training.recipes import default_study_dir, parse_run, run_parser
from ..validation import UserError, check_choice, did_you_mean

WHOLE = "whole recipe"
SECTIONS = ("without", "with")  # ingredients to remove from the recipe, and additions to it
KEPT = "kept"  # settings of the recipe that no row removes, each with the reason
SPECTROGRAM_VITS = [name for name, spec in MODELS.items() if spec.config_class is SpectrogramViTConfig]
# arguments that all runs of an ablation share
FIXED = {
    *GROUPING, *SEEDS, "model", "recipe", "duplicates", "num_groups", "train_speakers", "speaker_draw", "folds",
    "output_dir", "trust_remote_code",
}  # fmt: skip

DESCRIPTION = (
    "Train the whole recipe of a model, the recipe without each of its ingredients and with each addition, and write "
    "a table of their effects.\n\n"
    "python recipes/ablate.py --model vit-32-30 --data synthetic --ingredients mixup"
)
EPILOG = "All arguments of recipes/train.py are taken too, and hold for every run."


@dataclass(frozen=True)
class Ingredients:
    """Content of `recipes/ablation/<model>.yaml`.

    Args:
        changes: settings by the name of their row, `without <ingredient>` or `with <ingredient>`.
        kept: reasons by settings of the recipe that no row removes.
    """

    changes: dict[str, dict[str, Any]]
    kept: dict[str, str]

    def choose(self, names: Sequence[str] | None) -> dict[str, dict[str, Any]]:
        """Return the changes of some ingredients, in the order of the file; all without names.

        Raises:
            UserError: for an unknown name, with the nearest.
        """
        ingredients = {row: row.split(" ", 1)[1] for row in self.changes}
        for name in names or ():
            check_choice("--ingredients", name, list(ingredients.values()))
        return {row: self.changes[row] for row, name in ingredients.items() if names is None or name in names}


def read_ingredients(recipes: Path, model: str) -> Ingredients:
    """Return the ingredients of a model's recipe.

    Args:
        recipes: folder of the recipes.
        model: a model with recipes.

    Raises:
        UserError: where the file is missing, or does not contain ingredients.
    """
    file = recipe_file(recipes / "ablation", model)
    if not file.is_file():
        raise UserError(
            f"expected the ingredients of {model} in {file}, found no such file; write it, or give one of "
            f"{', '.join(SPECTROGRAM_VITS)} or an encoder as --model."
        )
    content = read_yaml(file)
    parts, kept = [content.get(part, {}) for part in SECTIONS], content.get(KEPT, {})
    fits = content.keys() <= {*SECTIONS, KEPT} and _all([*parts, kept], dict) and _all(kept.values(), str)
    if not (fits and _all([settings for part in parts for settings in part.values()], dict)):
        raise UserError(
            f"expected {file} to contain 'without' or 'with', and below them ingredients with their settings, and "
            f"reasons below '{KEPT}', found {str(content)[:60]!r}; correct it."
        )
    pairs = zip(SECTIONS, parts, strict=True)
    rows = {f"{section} {name}": settings for section, part in pairs for name, settings in part.items()}
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
                f"expected ingredients in {file} with different folders, found {row_folder(row)} for {other!r} and "
                f"{row!r}; rename one of them."
            )
    return Ingredients(rows, kept)


def row_folder(row: str) -> str:
    """Return the name of the folder with the runs of a row."""
    return re.sub(r"[^\w.]+", "-", row)


def _all(values: Iterable[Any], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)


@dataclass
class AblationArguments:
    """Arguments of an ablation; all others are those of `recipes/train.py`, and hold for every run."""

    model: str | None = field(
        default=None,
        metadata={
            "help": f"Model: {', '.join(SPECTROGRAM_VITS)}; one of the encoders {', '.join(BACKBONES)}; "
            "encoder:<id or folder> for another; or a model for which you write a recipes/ablation/<model>.yaml."
        },
    )
    recipe: str = field(default="tuned", metadata={"help": "Recipe to measure."})
    ingredients: list[str] | None = field(
        default=None,
        metadata={
            "help": "Ingredients to train, by their names in recipes/ablation/<model>.yaml; all by default. The table "
            "has all that are finished."
        },
    )
    seeds: list[int] | None = field(default=None, metadata={"help": "Seeds of split and training; --seed by default."})
    output_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder of runs and table; runs/<data>/ablation/<recipe>-<model>-<protocol>-<task> by default."
        },
    )

    def __post_init__(self) -> None:
        if self.model and not (self.model in MODELS or is_encoder(self.model)):
            raise UserError(
                f"expected a named model or encoder:<id or folder>, which have recipes, found --model {self.model}"
                f"{did_you_mean(self.model, (*MODELS, *BACKBONES))}; give one of these, such as "
                f"encoder:{split_name(self.model)[1]}."
            )
        if self.seeds and len(set(self.seeds)) < len(self.seeds):
            seeds = " ".join(map(str, self.seeds))
            raise UserError(f"expected each of --seeds once, found {seeds}; a seed gives the same run each time.")


@dataclass(frozen=True)
class Variant:
    """One run: the whole recipe or a change of it, with one seed.

    Args:
        name: name of the change, such as `without weight decay`.
        folder: folder of the run.
        arguments: arguments of the run.
        training: arguments of its training.
    """

    name: str
    folder: Path
    arguments: RunArguments
    training: VivaeTrainingArguments


@dataclass(frozen=True)
class Plan:
    """Runs of an ablation.

    Args:
        argv: flags of `recipes/train.py` that all runs share.
        base: model and recipe.
        recipes: folder of the recipes.
        ingredients: ingredients of the recipe.
        seeds: seeds of split and training.
        output: folder of the ablation.
        variants: the runs to train, the whole recipe first.
        idle: rows that change nothing in the recipe, which are not trained.
    """

    argv: list[str]
    base: dict[str, Any]
    recipes: Path
    ingredients: Ingredients
    seeds: list[int]
    output: Path
    variants: list[Variant]
    idle: list[str]


def plan_ablation(argv: list[str], recipes: Path) -> Plan:
    """Return the runs of a command line.

    Args:
        argv: as for `ablate`.
        recipes: folder of the recipes.

    Raises:
        UserError: for a model without recipes; for an ingredient that is unknown, that changes clips, folds or seeds,
            or that was asked for by name and changes nothing; and where none changes anything.
    """
    parser = FlagParser(AblationArguments, base=run_parser(), description=DESCRIPTION, epilog=EPILOG)
    namespace, flags = parser.parse_known_args(argv)
    ablation = AblationArguments(**vars(namespace))
    if any(flag.partition("=")[0] == "--config" for flag in flags):
        raise UserError("an ablation changes a recipe, found --config, which repeats a run; give its --recipe.")
    base = {"model": ablation.model, "recipe": ablation.recipe}
    run, args = parse_run(flags, recipes, base)
    ingredients, seeds = read_ingredients(recipes, run.model), ablation.seeds or [args.seed]
    output = Path(ablation.output_dir or default_study_dir(run, "ablation"))
    changes = ingredients.choose(ablation.ingredients)
    variants = plan_variants(flags, base, changes, seeds, output, recipes)
    idle = [row for row in changes if row not in {variant.name for variant in variants}]
    if idle and (ablation.ingredients or len(idle) == len(changes)):
        raise UserError(
            f"expected ingredients that change the recipe as it is trained, found that the settings of {idle[0]!r} "
            "change nothing in it; name others with --ingredients."
        )
    return Plan(flags, base, recipes, ingredients, seeds, output, variants, idle)


def plan_variants(
    argv: Sequence[str],
    base: Mapping[str, Any],
    changes: Mapping[str, dict[str, Any]],
    seeds: Sequence[int],
    output: Path,
    recipes: Path,
) -> list[Variant]:
    """Return the runs of the whole recipe, then of each change that has an effect on it, with every seed.

    Args:
        argv: flags of `recipes/train.py`.
        base: arguments that win over the flags.
        changes: settings by the name of the change, which win over flags and base; `model_config` is merged field by
            field, and None or an empty list stands for an argument's default.
        seeds: seeds of split and training.
        output: folder of the ablation.
        recipes: folder of the recipes.

    Raises:
        UserError: for settings that are unknown or do not fit.
    """
    variants = []
    for name, settings in {WHOLE: {}, **changes}.items():
        for seed in seeds:
            folder = output / "runs" / row_folder(name) / f"seed{seed}"
            try:
                pair = parse_run(argv, recipes, {**base, **settings, "seed": seed, "output_dir": str(folder)})
            except UserError as error:
                raise UserError(f"{str(error).rstrip('.')} (the settings of {name!r}).") from error
            variants.append(Variant(name, folder, *pair))
    whole = _settings(variants[0])
    idle = {variant.name for variant in variants[len(seeds) :: len(seeds)] if _settings(variant) == whole}
    return [variant for variant in variants if variant.name not in idle]


def _settings(variant: Variant) -> dict[str, Any]:
    settings = {**asdict(variant.arguments), **variant.training.to_dict()}
    return {name: value for name, value in settings.items() if name not in VOLATILE}
