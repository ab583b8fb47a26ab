"""What each ingredient of a recipe is worth: it is trained whole, and once more for each ingredient.

`recipes/ablation/<model>.yaml` names the ingredients and the settings that take each away, or add one that was tried.
"""

import gc
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from . import runs
from .ablation_plan import Plan, Variant, plan_ablation, plan_variants
from .corpus.schema import Corpus
from .evaluation.ablation_tables import WHOLE, report_ablation
from .ingredients import row_folder
from .models import short_name
from .study import STAYS, Clock
from .study_folder import check_version, drop_checkpoints, is_finished
from .training import train


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
        ValueError: as for `plan_ablation`; for what training refuses; and where a run fails, naming it: those before
            it stay.
    """
    plan = plan_ablation(argv, recipes)
    for variant in plan.variants:
        check_version(variant.folder)
    whole = plan.variants[0]
    first = whole.training.process_index == 0
    with runs.claim(plan.output) if first else nullcontext():
        _train_all(plan.variants, whole.arguments.load(), first)
        return Ablation(plan.output, _report(plan) if first else "")


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


def _report(plan: Plan) -> str:
    """Write the table of all rows that are finished, those of earlier commands too, in the order of their file."""
    run, trained = plan.variants[0].arguments, {variant.name for variant in plan.variants}
    places, notes = {}, [plan.ingredients.say_kept()] if plan.ingredients.kept else []
    for row in (WHOLE, *plan.ingredients.changes):
        try:
            variants = plan.variants if row in trained else _earlier(plan, row)
        except ValueError as problem:
            notes.append(f"{row} is left out: {problem}")
            continue
        if folders := [variant.folder for variant in variants if variant.name == row]:
            places[row] = folders
    title = f"{short_name(run.model)} {run.recipe}"
    return report_ablation(plan.output, title, places, plan.ingredients.changes, notes)


def _earlier(plan: Plan, row: str) -> list[Variant]:
    """The runs of a row that this command does not train; none where no command has.

    Raises:
        ValueError: for runs that are not finished, and for those of another recipe, corpus or version.
    """
    if not (plan.output / "runs" / row_folder(row)).is_dir():
        return []
    changes = {row: plan.ingredients.changes[row]}
    whole, *rest = plan_variants(plan.flags, changes, plan.seeds, plan.output, plan.recipes)
    corpus = runs.read_json(whole.folder / "run.json")["corpus"]
    variants = [variant for variant in rest if variant.name == row]
    for variant in variants:
        if not (variant.folder / "results.json").is_file():
            raise ValueError(f"expected a finished run in {variant.folder}, found none; name it with --ingredients.")
        check_version(variant.folder)
        # all but the clips of its fold, which follow from these
        record = runs.read_json(variant.folder / "run.json") | {"run": asdict(variant.arguments), "corpus": corpus}
        runs.check_same_run(variant.folder, record | {"training": variant.training.to_dict()})
    return variants
