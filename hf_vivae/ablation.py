"""What each ingredient of a recipe is worth: it is trained whole, and once more for each ingredient.

`recipes/ablation/<model>.yaml` names the ingredients and the settings that take each away, or add one that was tried.
"""

import gc
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from . import runs
from .ablation_plan import Plan, Variant, plan_ablation, plan_variants
from .evaluation.ablation_tables import WHOLE, report_ablation
from .ingredients import row_folder
from .models import short_name
from .prepared import Prepared, prepare, run_record
from .study import STAYS, Clock
from .study_folder import check_version, drop_checkpoints
from .training import train
from .validation import UserError


@dataclass(frozen=True)
class Ablation:
    """Where runs, table and figures lie, and the table as text; empty in all processes but one."""

    folder: Path
    text: str


def ablate(argv: list[str], recipes: Path) -> Ablation:
    """Train what is not finished of an ablation, and write its table and figures, with what was finished before.

    Args:
        argv: flags of `recipes/ablate.py`: those of `AblationArguments` and of `recipes/train.py`.
        recipes: folder of the recipes.

    Raises:
        ValueError: as for `plan_ablation`; before anything is trained, for run folders of another version or other
            settings; for what training refuses; and where a run fails, naming it: those before it stay.
    """
    plan = plan_ablation(argv, recipes)
    runs.check_report_folder(plan.output)
    whole = plan.variants[0]
    first = whole.training.process_index == 0
    with runs.claim(plan.output) if first else nullcontext():
        with whole.training.main_process_first(desc="reading corpus"):
            prepared = prepare(whole.arguments, whole.training.seed, whole.arguments.load())
        for variant in plan.variants:
            _check_folder(variant, prepared)
        _train_all(plan.variants, prepared, first)
        return Ablation(plan.output, _report(plan, prepared) if first else "")


def _check_folder(variant: Variant, prepared: Prepared) -> None:
    """Refuse a run folder of another version, recipe or corpus."""
    check_version(variant.folder)
    file = variant.folder / "run.json"
    # the clips of its fold follow from all the rest
    fold = runs.read_json(file).get("fold") if file.is_file() else None
    runs.check_same_run(variant.folder, run_record(variant.arguments, variant.training, prepared) | {"fold": fold})


def _train_all(variants: Sequence[Variant], prepared: Prepared, speaks: bool) -> None:
    # folds take about as long; the arithmetic of training_work is known for the report's models alone
    clock = Clock({str(one.folder): float(_folds_left(one, prepared)) for one in variants})
    for number, variant in enumerate(variants, start=1):
        if speaks:
            said = f"{variant.name}, seed {variant.training.seed}"
            print(f"[{number}/{len(variants)}] {said}: {clock.left()}", flush=True)
        _train(variant, prepared, speaks)
        clock.tick(str(variant.folder))


def _folds_left(variant: Variant, prepared: Prepared) -> int:
    chosen = variant.arguments.folds
    wanted = {fold.name for number, fold in enumerate(prepared.folds) if chosen is None or number in chosen}
    found = map(runs.finished_results, (variant.folder, *variant.folder.glob("*/")))
    return len(wanted - {results["fold"] for results in found if results})


def _train(variant: Variant, prepared: Prepared, cleans: bool) -> None:
    try:
        _, folders = train(variant.arguments, variant.training, prepared.corpus)
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')} (the run in {variant.folder} failed; {STAYS}).") from error
    finally:
        gc.collect()  # a model refers to its trainer in circles
    if cleans:
        drop_checkpoints(folders)


def _report(plan: Plan, prepared: Prepared) -> str:
    """Write the table of all rows that are finished, those of earlier commands too, in the order of their file."""
    run, trained = plan.variants[0].arguments, {variant.name for variant in plan.variants}
    places, notes = {}, [plan.ingredients.say_kept()] if plan.ingredients.kept else []
    for row in (WHOLE, *plan.ingredients.changes):
        try:
            variants = plan.variants if row in trained else _earlier(plan, row, prepared)
        except UserError as problem:
            notes.append(f"{row} is left out: {problem}")
            continue
        if folders := [variant.folder for variant in variants if variant.name == row]:
            places[row] = folders
    title = f"{short_name(run.model)} {run.recipe}"
    return report_ablation(plan.output, title, places, plan.ingredients.changes, notes)


def _earlier(plan: Plan, row: str, prepared: Prepared) -> list[Variant]:
    """The runs of a row that this command does not train; none where no command has.

    Raises:
        ValueError: for a row that changes nothing, for runs that are not finished, and for those of another recipe,
            corpus or version.
    """
    if row not in plan.idle and not (plan.output / "runs" / row_folder(row)).is_dir():
        return []
    changes = {row: plan.ingredients.changes[row]}
    planned = plan_variants(plan.flags, changes, plan.seeds, plan.output, plan.recipes)
    variants = [variant for variant in planned if variant.name == row]
    if not variants:
        raise UserError("its settings change nothing in the recipe as it is trained.")
    for variant in variants:
        if not (variant.folder / "results.json").is_file():
            raise UserError(f"expected a finished run in {variant.folder}, found none; name it with --ingredients.")
        _check_folder(variant, prepared)
    return variants
