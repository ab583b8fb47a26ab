"""The table of an ablation: what a recipe scores whole, without each ingredient, and with what was tried on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..runs import write_json, write_text
from ..validation import UserError
from .evaluated import Group, System, join
from .evaluation_figures import difference_figure
from .evaluation_report import SYNTHETIC
from .evaluation_results import evaluation_results
from .evaluation_rows import DEPENDENT, baselines, explain_stars, starred, where
from .fold_folders import find_folders
from .group_scores import GroupScores, Pair, score_group
from .resampling import Estimate
from .study_rows import Row, make_table
from .system_scores import SystemScores
from .tables import Table

WHOLE = "whole recipe"
SCORES = {"accuracy": "accuracy", "uar": "UAR"}
ADDED = "with "  # how the names of rows begin that add to the recipe
DRAWN = {"speakers": "speakers, which hold for unseen voices", "clips": "clips"}
INDEPENDENT = {
    "speakers": DEPENDENT,
    "clips": "Bounds and p take clips as independent, which those of one speaker are not.",
}
CAPTION = (
    "Ablation of {recipe} on {where}: folds {covered}, seeds {seeds}. Each row is a training of its own, scored on "
    "the test clips of all folds together, means over seeds. Differences are the row minus the whole recipe on the "
    "same clips and seeds, in points, with 95 % bounds of the paired bootstrap over {drawn}. What was taken away pays "
    "where both bounds lie below 0, what was added where both lie above; of many rows some do by chance. All rows are "
    "compared with one training of the whole recipe for each seed: bounds and p say nothing of other seeds. p is "
    "McNemar's of the accuracies, adjusted for the number of rows (Holm). {dependent} What is chosen by this table is "
    "chosen on its test clips, and wants other clips to be scored on. What was taken away comes first, each part "
    "sorted by the difference in UAR. "
    "{baselines}Seconds are those of all folds of a seed, since the last start of a run that was interrupted; the "
    'first row also computes features, which others may share. "-": the row that others are compared with, or several '
    "seeds, of which McNemar's test is not."
)


def report_ablation(
    folder: Path,
    recipe: str,
    places: Mapping[str, Sequence[Path]],
    settings: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str] = (),
) -> str:
    """Write `ablation.md`, `.csv` and `.json`, and a figure of the differences in each score; the first as text.

    Args:
        folder: of the ablation.
        recipe: what was ablated: model and recipe.
        places: run folders of each row by its name, `WHOLE` first.
        settings: what each ingredient changes in the recipe, by the name of its row.
        notes: sentences to stand below the table.

    Raises:
        ValueError: where a row has no finished run, or seeds with different folds.
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
    for key, said in SCORES.items() if scores.pairs else ():
        covered = scores.systems[0].system.covered
        title = f"{recipe}: each change minus the whole recipe, {where(scores.group.clips)}: folds {covered}"
        difference_figure([_point(pair, key) for pair in scores.pairs], said, title).savefig(folder / f"{key}.png")
    return text


def score_ablation(places: Mapping[str, Sequence[Path]]) -> tuple[GroupScores, list[str]]:
    """Rows as systems, each compared with the whole recipe, and a sentence for all that is left out.

    The whole recipe comes first, then what was taken away, then what was added, each by the difference in UAR.

    Args:
        places: as for `report_ablation`.

    Raises:
        ValueError: as `report_ablation`.
    """
    from tqdm import tqdm

    systems, left_out = [], []
    for name, folders in places.items():
        found, problems = find_folders(folders)
        left_out += problems
        systems.append(_system(name, [system for group in join(found) for system in group.systems]))
    group = Group(systems[0].folds[0].clips, systems[0].folds[0].labels, tuple(systems))
    with tqdm(total=len(systems), desc="scoring", unit="row", delay=1) as progress:
        scores = score_group(group, WHOLE, progress.update)
    pairs = sorted(scores.pairs, key=lambda pair: (pair.first.name.startswith(ADDED), pair.comparison.uar.value))
    compared = [WHOLE, *(pair.first.name for pair in pairs)]
    order = [*compared, *(name for name in places if name not in compared)]
    rows = sorted(scores.systems, key=lambda row: order.index(row.system.name))
    return replace(scores, systems=tuple(rows), pairs=tuple(pairs)), [*left_out, *scores.not_compared]


def _system(name: str, found: Sequence[System]) -> System:
    if len(found) > 1:
        raise UserError(
            f"expected the same folds of each seed of {name!r}, found {'; '.join(system.name for system in found)}; "
            "repeat the command that trained the most folds with all seeds, or give another --output_dir."
        )
    return replace(found[0], name=name)


def ablation_table(scores: GroupScores, recipe: str) -> Table:
    """What each row scores, how far it is from the whole recipe, and how long it took.

    Args:
        scores: as `score_ablation` gives them.
        recipe: what was ablated, for the caption.
    """
    columns: dict[str, str | None] = {"variant": None, **dict.fromkeys(SCORES.values(), ".1%")}
    for said in SCORES.values():
        columns |= dict.fromkeys((f"{said} difference (points)", f"{said} from", f"{said} to"), "+.1f")
    columns |= {"p adjusted": ".2g", "seconds": ".0f"}
    over_speakers = all(pair.comparison.uar.speakers for pair in scores.pairs)
    drawn = "speakers" if over_speakers else "clips"
    pairs = {pair.first.name: pair for pair in scores.pairs}
    rows = [_row(row, pairs.get(row.system.name), drawn) for row in scores.systems]
    return make_table("ablation", _caption(scores, recipe, drawn), columns, rows)


def _caption(scores: GroupScores, recipe: str, drawn: str) -> str:
    systems, clips = [row.system for row in scores.systems], scores.group.clips
    said = CAPTION.format(
        recipe=recipe,
        where=where(clips),
        covered=systems[0].covered,
        seeds=", ".join(systems[0].seeds),
        drawn=DRAWN[drawn],
        dependent=INDEPENDENT[drawn],
        baselines=baselines(scores),
    )
    synthetic = f" {SYNTHETIC}" if clips.corpus == "synthetic" else ""
    return f"{said}{synthetic}{explain_stars(systems)}"


def _row(row: SystemScores, pair: Pair | None, drawn: str) -> Row:
    system = row.system
    found: Row = {"variant": starred(system), "seconds": sum(fold.seconds for fold in system.folds) / len(system.runs)}
    found |= {said: row.estimates[key].value for key, said in SCORES.items()}
    if pair is None:
        return found
    for key, said in SCORES.items():
        estimate: Estimate = getattr(pair.comparison, key)
        found[f"{said} difference (points)"] = 100 * estimate.value
        if bounds := getattr(estimate, drawn):
            found |= {f"{said} {end}": 100 * bound for end, bound in zip(("from", "to"), bounds, strict=True)}
    return {**found, "p adjusted": pair.adjusted}


def _point(pair: Pair, key: str) -> dict[str, Any]:
    estimate = getattr(pair.comparison, key)
    return {
        "name": starred(pair.first),
        "value": estimate.value,
        "clips": estimate.clips,
        "speakers": estimate.speakers,
        "p_value": pair.adjusted if key == "accuracy" else None,  # McNemar's test is of accuracy
    }
