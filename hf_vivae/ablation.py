"""What each ingredient of a recipe is worth: it is trained whole, and once more for each ingredient.

`recipes/ablation/<model>.yaml` names the ingredients and the settings that take each away, or add one that was tried.
"""

import gc
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from . import runs
from .arguments import RunArguments, VivaeTrainingArguments
from .corpus.schema import Corpus, check_choice
from .evaluation.ablation_tables import WHOLE, report_ablation
from .evaluation.fold_folders import GROUPING, SEEDS
from .flags import FlagParser
from .models import MODELS, PROBE, short_name
from .parsing import as_flags, default_output_dir, parse_run
from .study import STAYS, Clock
from .study_folder import check_version, drop_checkpoints, is_finished
from .training import train

SECTIONS = ("without", "with")  # what is taken away from the recipe, and what was tried on top of it
FIXED = {*GROUPING, *SEEDS, "model", "recipe", "num_groups", "folds", "output_dir"}  # the same for all


@dataclass
class AblationArguments:
    """Which ingredients of a recipe; all other flags are those of `recipes/train.py`."""

    ingredients: list[str] | None = field(
        default=None, metadata={"help": "Names in recipes/ablation/<model>.yaml; all by default."}
    )
    seeds: list[int] | None = field(default=None, metadata={"help": "Of split and training; --seed by default."})
    output_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder of runs and table; runs/<data>/ablation/<recipe>-<model>-<protocol>-<task> if absent."
        },
    )


@dataclass(frozen=True)
class Ablation:
    """Where runs, table and figures lie, and the table as text; empty in all processes but one."""

    folder: Path
    text: str


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


def ablate(argv: list[str], recipes: Path) -> Ablation:
    """Train what is not finished of an ablation, and write its table and figures.

    Args:
        argv: flags of `recipes/ablate.py`: those of `AblationArguments` and of `recipes/train.py`.
        recipes: folder of the recipes.

    Raises:
        ValueError: for an ingredient that is not there, changes nothing, or changes clips, folds or seeds; for what
            training refuses; and where a run fails, naming it: those before it stay.
    """
    parser = FlagParser(AblationArguments, allow_abbrev=False, description=AblationArguments.__doc__)
    given, flags = parser.parse_known_args(argv)
    run, args = parse_run(flags, recipes)
    changes = read_ingredients(recipes, run.model, given.ingredients)
    output = Path(given.output_dir or default_folder(run))
    variants = plan_variants(flags, changes, given.seeds or [args.seed], output, recipes)
    for variant in variants:
        check_version(variant.folder)
    first = args.process_index == 0
    with runs.claim(output) if first else nullcontext():
        _train_all(variants, run.load(), first)
        if not first:
            return Ablation(output, "")
        places = {name: [one.folder for one in variants if one.name == name] for name in (WHOLE, *changes)}
        return Ablation(output, report_ablation(output, f"{short_name(run.model)} {run.recipe}", places, changes))


def default_folder(run: RunArguments) -> Path:
    """Folder of the ablation of a recipe: runs/<data>/ablation/<recipe>-<model>-<protocol>-<task>."""
    place = Path(default_output_dir(run, 0))
    return Path("runs", run.data, "ablation", f"{place.parent.name}-{place.name.removesuffix('-seed0')}")


def read_ingredients(recipes: Path, model: str, names: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """The settings of each change by its name, `without <ingredient>` or `with <ingredient>`.

    A model that has no file of its own, and is none of `MODELS`, has the ingredients of `encoder.yaml`.

    Args:
        recipes: folder of the recipes.
        model: whose ingredients.
        names: of ingredients; None for all.

    Raises:
        ValueError: where there is no such file, it does not hold ingredients, or a name is unknown.
    """
    file = _file(recipes / "ablation", model)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not valid YAML ({' '.join(str(error).split())}); mend it.") from error
    _check_content(file, content)
    known = [name for section in SECTIONS for name in content.get(section, {})]
    for name in names or ():
        check_choice("--ingredients", name, known)
    return {
        f"{section} {name}": settings
        for section in SECTIONS
        for name, settings in content.get(section, {}).items()
        if names is None or name in names
    }


def _file(folder: Path, model: str) -> Path:
    others = [] if model in MODELS else ["probe" if model.startswith(PROBE) else "encoder"]
    files = [folder / f"{name}.yaml" for name in (short_name(model).replace(":", "-"), *others)]
    found = [file for file in files if file.is_file()]
    if not found:
        raise ValueError(f"expected the ingredients of {model} in {files[-1]}, found no such file; write it.")
    return found[0]


def _check_content(file: Path, content: Any) -> None:
    fits = isinstance(content, dict) and content.keys() <= set(SECTIONS) and _are_mappings(content)
    if not (fits and all(map(_are_mappings, content.values()))):
        raise ValueError(
            f"expected {file} to hold 'without' or 'with', and below them ingredients with their settings, found "
            f"{str(content)[:60]!r}; mend it."
        )
    for ingredients in content.values():
        for name, settings in ingredients.items():
            if fixed := sorted(settings.keys() & FIXED):
                raise ValueError(
                    f"expected ingredients in {file} that leave clips, folds and seeds as they are, found {fixed[0]} "
                    f"in {name!r}; remove it."
                )


def _are_mappings(content: Mapping[str, Any]) -> bool:
    return all(isinstance(value, dict) for value in content.values())


def plan_variants(
    flags: list[str], changes: Mapping[str, dict[str, Any]], seeds: Sequence[int], output: Path, recipes: Path
) -> list[Variant]:
    """All runs in their order: the whole recipe first, then each change, with every seed.

    Args:
        flags: of `recipes/train.py`.
        changes: settings by the name of the change, which win over the flags; `model_config` field by field, and None
            for an argument that is absent by default.
        seeds: of split and training.
        output: folder of the ablation.
        recipes: folder of the recipes.

    Raises:
        ValueError: for settings that are unknown, do not fit, or change nothing.
    """
    config = parse_run(flags, recipes)[0].model_config
    planned = []
    for name, settings in {WHOLE: {}, **changes}.items():
        # a flag that is given twice counts once, and the command line may have its own
        merged = {"model_config": {**config, **settings["model_config"]}} if "model_config" in settings else {}
        for seed in seeds:
            folder = output / "runs" / re.sub(r"[^\w.]+", "-", name) / f"seed{seed}"
            added = as_flags({**settings, **merged, "seed": seed, "output_dir": str(folder)})
            planned.append(_take_away(_variant(name, folder, [*flags, *added], recipes), settings))
    _check_changes(planned, len(seeds))
    return planned


def _variant(name: str, folder: Path, flags: list[str], recipes: Path) -> Variant:
    try:
        return Variant(name, folder, *parse_run(flags, recipes))
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')} (the settings of {name!r}).") from error


def _take_away(variant: Variant, settings: Mapping[str, Any]) -> Variant:
    """The variant without the arguments that are None, which no flag can say where a recipe has them."""
    parts = (variant.arguments, variant.training)
    optional = {entry.name: part for part in parts for entry in fields(part) if entry.default is None}
    for name in (name for name, value in settings.items() if value is None):
        if name not in optional:
            raise ValueError(
                f"expected null only for arguments that are absent by default, found {name} in {variant.name!r}; give "
                "it a value."
            )
        setattr(optional[name], name, None)
    return variant


def _check_changes(planned: Sequence[Variant], seeds: int) -> None:
    whole = _settings(planned[0])
    for variant in planned[seeds::seeds]:
        if _settings(variant) == whole:
            raise ValueError(
                f"expected ingredients that change the recipe as it is trained, found that the settings of "
                f"{variant.name!r} change nothing in it; name others with --ingredients."
            )


def _settings(variant: Variant) -> dict[str, Any]:
    settings = {**asdict(variant.arguments), **variant.training.to_dict()}
    return {name: value for name, value in settings.items() if name not in runs.VOLATILE}


def _train_all(variants: Sequence[Variant], corpus: Corpus, speaks: bool) -> None:
    # all take about as long; the arithmetic of training_work is known for the report's models alone
    clock = Clock({str(one.folder): 0.0 if is_finished(one.folder) else 1.0 for one in variants})
    for number, variant in enumerate(variants, start=1):
        if speaks:
            said = f"{variant.name}, seed {variant.training.seed}"
            print(f"[{number}/{len(variants)}] {said}: {clock.left()}", flush=True)
        _train(variant, corpus, speaks)
        clock.tick(str(variant.folder))


def _train(variant: Variant, corpus: Corpus, cleans: bool) -> None:
    try:
        _, folders = train(variant.arguments, variant.training, corpus)
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')} (the run in {variant.folder} failed; {STAYS}).") from error
    finally:
        gc.collect()  # a model refers to its trainer in circles
    if cleans:
        drop_checkpoints(folders)
