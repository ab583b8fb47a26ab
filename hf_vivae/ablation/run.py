"""Training of the variants of an ablation, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import run_folder
from ..evaluation.bootstrap import Estimate
from ..evaluation.comparison import GroupScores, Pair, score_group
from ..evaluation.evaluate import evaluation_results
from ..evaluation.figures import difference_figure
from ..evaluation.report import SYNTHETIC
from ..evaluation.runs import find_folders
from ..evaluation.scores import SystemScores
from ..evaluation.systems import Group, join_folds
from ..evaluation.tables import DEPENDENT, baselines, explain_stars
from ..files import claim, write_json, write_text
from ..models import short_name
from ..reporting.tables import SCORE_NAMES, Row, Table, make_table
from ..training.build import TrainingData, check_run_folder, load_training_data
from ..training.run import train_in_study
from ..validation import UserError
from .plan import WHOLE, Plan, Variant, plan_ablation, plan_variants, row_folder

SCORES = {key: SCORE_NAMES[key] for key in ("accuracy", "uar")}
ADDED = "with "  # prefix of rows that add to the recipe
DRAWN = {"speakers": "speakers, which hold for unseen speakers", "clips": "clips"}
INDEPENDENT = {
    "speakers": DEPENDENT,
    "clips": "Bounds and p take clips as independent, which those of one speaker are not.",
}
CAPTION = (
    "Ablation of {recipe} on {where}: folds {covered}, seeds {seeds}. Each row is a training of its own, scored on "
    "the test clips of all folds together, means over seeds. Differences are the row minus the whole recipe on the "
    "same clips and seeds, in points, with 95 % bounds of the paired bootstrap over {drawn}. An ingredient helps "
    "where both bounds of its row are below 0 without it, or above 0 with it; of many rows some do by chance. All "
    "rows are compared with one training of the whole recipe for each seed: bounds and p hold for these seeds only. "
    "p is McNemar's of the accuracies, adjusted for the number of rows (Holm). {dependent} A recipe that is chosen "
    "by this table is chosen on its test clips, and must be scored on other clips. Rows without an ingredient come "
    "first, each part sorted by the difference in UAR. {baselines}Seconds are those of all folds of a seed, since "
    "the last start of a run that was interrupted; the first row also computes features, which others may share. "
    '"-": the row that others are compared with, or several seeds, for which McNemar\'s test is not defined.'
)


@dataclass(frozen=True)
class Ablation:
    """Folder of runs, table and figures, and the table as text, which is empty in all processes but one."""

    folder: Path
    text: str


def ablate(argv: list[str], recipes: Path) -> Ablation:
    """Train the unfinished runs of an ablation, and write the table and figures of all that are finished.

    Args:
        argv: flags of `recipes/ablate.py`: those of `AblationArguments` and of `recipes/train.py`.
        recipes: folder of the recipes.

    Raises:
        UserError: as for `plan_ablation`; before anything is trained, for run folders of another version or other
            settings; for arguments that training refuses; and where a run fails, with its name: those before it stay.
    """
    plan = plan_ablation(argv, recipes)
    run_folder.check_report_folder(plan.output)
    whole = plan.variants[0]
    first = whole.training.process_index == 0
    with claim(plan.output) if first else nullcontext():
        with whole.training.main_process_first(desc="reading corpus"):
            prepared = load_training_data(whole.arguments, whole.training.seed, whole.arguments.load())
        for variant in plan.variants:
            check_run_folder(variant.arguments, variant.training, prepared)
        progress = tqdm(plan.variants, desc="ablation", unit="run", disable=not first)
        for variant in progress:
            progress.set_postfix_str(f"{variant.name}, seed {variant.training.seed}")
            train_in_study(variant.arguments, variant.training, prepared.corpus)
        return Ablation(plan.output, _report(plan, prepared) if first else "")


def _report(plan: Plan, prepared: TrainingData) -> str:
    """Write the table of all finished rows, those of earlier commands too, in the order of `recipes/ablation/`."""
    run, trained = plan.variants[0].arguments, {variant.name for variant in plan.variants}
    places, kept = {}, "; ".join(f"{line} ({reason})" for line, reason in plan.ingredients.kept.items())
    notes = [f"No row removes: {kept}."] if kept else []
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


def _earlier(plan: Plan, row: str, prepared: TrainingData) -> list[Variant]:
    """Return the runs of a row that this command does not train; none where they were never trained.

    Raises:
        UserError: for a row that changes nothing, for runs that are not finished, and for those of another recipe,
            corpus or version.
    """
    if row not in plan.idle and not (plan.output / "runs" / row_folder(row)).is_dir():
        return []
    changes = {row: plan.ingredients.changes[row]}
    planned = plan_variants(plan.argv, plan.base, changes, plan.seeds, plan.output, plan.recipes)
    variants = [variant for variant in planned if variant.name == row]
    if not variants:
        raise UserError("its settings change nothing in the recipe as it is trained.")
    for variant in variants:
        if not (variant.folder / "results.json").is_file():
            raise UserError(f"expected a finished run in {variant.folder}, found none; name it with --ingredients.")
        check_run_folder(variant.arguments, variant.training, prepared)
    return variants


def report_ablation(
    folder: Path,
    recipe: str,
    places: Mapping[str, Sequence[Path]],
    settings: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str] = (),
) -> str:
    """Write `ablation.md`, `.csv` and `.json`, and a figure of the differences in each score; return the first.

    Args:
        folder: folder of the ablation.
        recipe: model and recipe of the ablation.
        places: run folders of each row by its name, `WHOLE` first.
        settings: changes of each ingredient in the recipe, by the name of its row.
        notes: sentences below the table.

    Raises:
        UserError: where a row has no finished run, or seeds with different folds.
    """
    scores, left_out = score_ablation(places)
    notes = [*notes, *left_out]
    table = ablation_table(scores, recipe)
    text = "\n".join([table.to_markdown(), *notes])
    write_text(folder / "ablation.md", text)
    write_text(folder / "ablation.csv", table.to_csv())
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    content = {"recipe": recipe, "caption": table.caption, "rows": rows}
    content |= {"settings": {row: settings[row] for row in places if row in settings}}
    write_json(folder / "ablation.json", {**content, "evaluation": evaluation_results([scores], notes)})
    for key, score in SCORES.items() if scores.pairs else ():
        covered = scores.systems[0].system.covered
        title = f"{recipe}: each change minus the whole recipe, {scores.group.clips.title}: folds {covered}"
        points = [
            {
                "name": pair.first.name_with_star,
                **asdict(getattr(pair.comparison, key)),
                "p_value": pair.adjusted if key == "accuracy" else None,  # McNemar's test is of accuracy
            }
            for pair in scores.pairs
        ]
        difference_figure(points, score, title).savefig(folder / f"{key}.png")
    return text


def score_ablation(places: Mapping[str, Sequence[Path]]) -> tuple[GroupScores, list[str]]:
    """Return rows as systems, each compared with the whole recipe, and a sentence for each fold that is left out.

    The whole recipe comes first, then rows without an ingredient, then rows with one, each by the difference in UAR.

    Args:
        places: as for `report_ablation`.

    Raises:
        UserError: as `report_ablation`.
    """
    systems, left_out = [], []
    for name, folders in places.items():
        folds, problems = find_folders(folders)
        left_out += problems
        joined = [system for group in join_folds(folds) for system in group.systems]
        if len(joined) > 1:
            raise UserError(
                f"expected the same folds of each seed of {name!r}, found {'; '.join(one.name for one in joined)}; "
                "repeat the command that trained the most folds with all seeds, or give another --output_dir."
            )
        systems.append(replace(joined[0], name=name))
    group = Group(systems[0].folds[0].clips, systems[0].folds[0].labels, tuple(systems))
    with tqdm(total=len(systems), desc="scoring", unit="row", delay=1) as progress:
        scores = score_group(group, WHOLE, progress.update)
    pairs = sorted(scores.pairs, key=lambda pair: (pair.first.name.startswith(ADDED), pair.comparison.uar.value))
    compared = [WHOLE, *(pair.first.name for pair in pairs)]
    order = [*compared, *(name for name in places if name not in compared)]
    rows = sorted(scores.systems, key=lambda row: order.index(row.system.name))
    return replace(scores, systems=tuple(rows), pairs=tuple(pairs)), [*left_out, *scores.not_compared]


def ablation_table(scores: GroupScores, recipe: str) -> Table:
    """Return the table of scores, differences from the whole recipe, and seconds of each row.

    Args:
        scores: scores of `score_ablation`.
        recipe: model and recipe of the ablation, for the caption.
    """
    columns: dict[str, str | None] = {"variant": None, **dict.fromkeys(SCORES.values(), ".1%")}
    for score in SCORES.values():
        columns |= dict.fromkeys((f"{score} difference (points)", f"{score} from", f"{score} to"), "+.1f")
    columns |= {"p adjusted": ".2g", "seconds": ".0f"}
    drawn = "speakers" if all(pair.comparison.uar.speakers for pair in scores.pairs) else "clips"
    pairs = {pair.first.name: pair for pair in scores.pairs}
    rows = [_row(row, pairs.get(row.system.name), drawn) for row in scores.systems]
    systems, clips = [row.system for row in scores.systems], scores.group.clips
    caption = CAPTION.format(
        recipe=recipe,
        where=clips.title,
        covered=systems[0].covered,
        seeds=", ".join(systems[0].seeds),
        drawn=DRAWN[drawn],
        dependent=INDEPENDENT[drawn],
        baselines=baselines(scores),
    )
    synthetic = f" {SYNTHETIC}" if clips.corpus == "synthetic" else ""
    return make_table("ablation", f"{caption}{synthetic}{explain_stars(systems)}", columns, rows)


def _row(row: SystemScores, pair: Pair | None, drawn: str) -> Row:
    system = row.system
    seconds = sum(fold.seconds for fold in system.folds) / len(system.runs)
    cells: Row = {"variant": system.name_with_star, "seconds": seconds}
    cells |= {score: row.estimates[key].value for key, score in SCORES.items()}
    if pair is None:
        return cells
    for key, score in SCORES.items():
        estimate: Estimate = getattr(pair.comparison, key)
        cells[f"{score} difference (points)"] = 100 * estimate.value
        if bounds := getattr(estimate, drawn):
            cells |= {f"{score} {end}": 100 * bound for end, bound in zip(("from", "to"), bounds, strict=True)}
    return {**cells, "p adjusted": pair.adjusted}
