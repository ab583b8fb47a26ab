"""Components of a recipe, and the variants that leave one out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..cli_parser import FlagParser
from ..evaluation.runs import GROUPING, SEEDS
from ..files import read_yaml
from ..models import MODELS, SpectrogramViTConfig, split_name
from ..models.backbones import BACKBONES, is_encoder
from ..run_folder import VOLATILE
from ..training.arguments import RunArguments, VivaeTrainingArguments
from ..training.recipes import as_flags, default_output_dir, parse_run, recipe_file
from ..validation import UserError, check_choice, did_you_mean

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
    content = read_yaml(file)
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
    fits = content.keys() <= {*SECTIONS, KEPT} and _all(content, dict)
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


@dataclass
class AblationArguments:
    """Which ingredients of which recipe; all other flags are those of `recipes/train.py`, and hold for every run."""

    model: str | None = field(
        default=None,
        metadata={
            "help": f"One of {', '.join(SPECTROGRAM_VITS)}; one of the encoders {', '.join(BACKBONES)}; "
            "encoder:<id or folder> for another; or a model for which you write a recipes/ablation/<model>.yaml."
        },
    )
    recipe: str = field(default="tuned", metadata={"help": "The recipe that is taken apart."})
    ingredients: list[str] | None = field(
        default=None,
        metadata={
            "help": "Those of recipes/ablation/<model>.yaml to train, by name; all by default. The table has all that "
            "are finished."
        },
    )
    seeds: list[int] | None = field(default=None, metadata={"help": "Of split and training; --seed by default."})
    output_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder of runs and table; runs/<data>/ablation/<recipe>-<model>-<protocol>-<task> if absent."
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
            found = " ".join(map(str, self.seeds))
            raise UserError(f"expected each of --seeds once, found {found}; a seed gives the same run each time.")


@dataclass(frozen=True)
class Variant:
    """One run: the whole recipe or a change of it, with one seed.

    Args:
        name: of the change, such as `without weight decay`.
        folder: of the run.
        arguments: what to train on what.
        training: how to train.
    """

    name: str
    folder: Path
    arguments: RunArguments
    training: VivaeTrainingArguments


@dataclass(frozen=True)
class Plan:
    """What a command line asks for.

    Args:
        flags: of `recipes/train.py`, that all runs share.
        recipes: folder of the recipes.
        ingredients: of the recipe.
        seeds: of split and training.
        output: folder of the ablation.
        variants: the runs to train, the whole recipe first.
        idle: rows that would change nothing in the recipe, which are not trained.
    """

    flags: list[str]
    recipes: Path
    ingredients: Ingredients
    seeds: list[int]
    output: Path
    variants: list[Variant]
    idle: list[str]


def plan_ablation(argv: list[str], recipes: Path) -> Plan:
    """The runs of a command line, none of them trained.

    Args:
        argv: as for `ablate`.
        recipes: folder of the recipes.

    Raises:
        ValueError: for a model without recipes; for an ingredient that is not there, that changes clips, folds or
            seeds, or that was asked for by name and changes nothing; and where none changes anything.
    """
    parser = FlagParser(
        AblationArguments,
        allow_abbrev=False,
        description="Train a model's recipe whole, once more without each of its ingredients, and with each that was "
        "tried on top of it; write a table of what each is worth.",
        epilog="All arguments of recipes/train.py are taken too: python recipes/train.py --help.",
    )
    namespace, rest = parser.parse_known_args(argv)
    given = AblationArguments(**vars(namespace))
    if any(flag.partition("=")[0] == "--config" for flag in rest):
        raise UserError("an ablation takes a recipe apart, found --config, which repeats a run; give its --recipe.")
    flags = [*as_flags({"model": given.model, "recipe": given.recipe}), *rest]
    run, args = parse_run(flags, recipes)
    ingredients, seeds = read_ingredients(recipes, run.model), given.seeds or [args.seed]
    output = Path(given.output_dir or default_folder(run))
    changes = ingredients.choose(given.ingredients)
    variants = plan_variants(flags, changes, seeds, output, recipes)
    idle = [row for row in changes if row not in {variant.name for variant in variants}]
    if idle and (given.ingredients or len(idle) == len(changes)):
        raise UserError(
            f"expected ingredients that change the recipe as it is trained, found that the settings of {idle[0]!r} "
            "change nothing in it; name others with --ingredients."
        )
    return Plan(flags, recipes, ingredients, seeds, output, variants, idle)


def default_folder(run: RunArguments) -> Path:
    """Folder of the ablation of a recipe: runs/<data>/ablation/<recipe>-<model>-<protocol>-<task>."""
    place = Path(default_output_dir(run, 0))
    return Path("runs", run.data, "ablation", f"{place.parent.name}-{place.name.removesuffix('-seed0')}")


def plan_variants(
    flags: list[str], changes: Mapping[str, dict[str, Any]], seeds: Sequence[int], output: Path, recipes: Path
) -> list[Variant]:
    """Runs in their order: the whole recipe first, then each change that changes anything in it, with every seed.

    Args:
        flags: of `recipes/train.py`.
        changes: settings by the name of the change, which win over the flags; `model_config` field by field, and None
            or an empty list for an argument's default.
        seeds: of split and training.
        output: folder of the ablation.
        recipes: folder of the recipes.

    Raises:
        ValueError: for settings that are unknown or do not fit.
    """
    config = parse_run(flags, recipes)[0].model_config
    planned = []
    for name, settings in {WHOLE: {}, **changes}.items():
        # a flag that is given twice counts once, and the command line may have its own
        merged = {"model_config": {**config, **settings["model_config"]}} if "model_config" in settings else {}
        for seed in seeds:
            folder = output / "runs" / row_folder(name) / f"seed{seed}"
            added = as_flags({**settings, **merged, "seed": seed, "output_dir": str(folder)})
            absent = [key for key, value in settings.items() if value in (None, [])]  # which no flag can say
            planned.append(_variant(name, folder, [*flags, *added], recipes, absent))
    whole = _settings(planned[0])
    idle = {variant.name for variant in planned[len(seeds) :: len(seeds)] if _settings(variant) == whole}
    return [variant for variant in planned if variant.name not in idle]


def _variant(name: str, folder: Path, flags: list[str], recipes: Path, absent: Sequence[str]) -> Variant:
    try:
        return Variant(name, folder, *parse_run(flags, recipes, absent))
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')} (the settings of {name!r}).") from error


def _settings(variant: Variant) -> dict[str, Any]:
    settings = {**asdict(variant.arguments), **variant.training.to_dict()}
    return {name: value for name, value in settings.items() if name not in VOLATILE}


WHOLE = "whole recipe"
