"""The table of an ablation: what a recipe scores whole, without each ingredient, and with what was tried on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..runs import write_json, write_text
from .evaluated import Group, System, join
from .evaluation_figures import difference_figure
from .evaluation_report import SYNTHETIC
from .evaluation_results import evaluation_results
from .evaluation_rows import baselines, explain_stars, starred, where
from .fold_folders import find_folders
from .group_scores import GroupScores, Pair, score_group
from .resampling import Estimate
from .study_rows import Row, make_table
from .system_scores import SystemScores
from .tables import Table

WHOLE = "whole recipe"
SCORES = {"accuracy": "accuracy", "uar": "UAR"}
CAPTION = (
    "Ablation of {recipe} on {where}: folds {covered}, seeds {seeds}. Each row is a training of its own, scored on "
    "the test clips of all folds together, means over seeds, with 95 % bootstrap bounds over clips. Differences are "
    "the row minus the whole recipe on the same clips and seeds, in points, with 95 % bounds of the paired bootstrap "
    "over clips: below 0, what was taken away pays; above 0, what was added does. p is McNemar's, beside it adjusted "
    "for the number of rows (Holm). Bounds over speakers, which hold for unseen voices, are in the figures and in "
    "ablation.json. "
    "{baselines}Seconds are those of all folds of a seed, since the last start of a run that was interrupted; the "
    'first row also computes features, which others may share. "-": the row that others are compared with, or several '
    "seeds, of which McNemar's test is not."
)


def report_ablation(
    folder: Path, recipe: str, places: Mapping[str, Sequence[Path]], settings: Mapping[str, Mapping[str, Any]]
) -> str:
    """Write `ablation.md`, `.csv` and `.json`, and a figure of the differences in each score; the first as text.

    Args:
        folder: of the ablation.
        recipe: what was ablated: model and recipe.
        places: run folders of each row by its name, `WHOLE` first.
        settings: what each row changes in the recipe, by its name.

    Raises:
        ValueError: where a row has no finished run, or seeds with different folds.
    """
    scores, notes = score_ablation(places)
    table = ablation_table(scores, recipe)
    text = "\n".join([table.to_markdown(), *notes])
    write_text(folder / "ablation.md", text)
    write_text(folder / "ablation.csv", table.to_csv())
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    content = {"recipe": recipe, "caption": table.caption, "rows": rows, "settings": settings}
    write_json(folder / "ablation.json", {**content, "evaluation": evaluation_results([scores], notes)})
    for key, said in SCORES.items() if scores.pairs else ():
        title = f"Changes to {recipe}, {where(scores.group.clips)}"
        difference_figure([_point(pair, key) for pair in scores.pairs], said, title).savefig(folder / f"{key}.png")
    return text


def score_ablation(places: Mapping[str, Sequence[Path]]) -> tuple[GroupScores, list[str]]:
    """Rows as systems in their order, compared with the whole recipe, and a sentence for all that is left out.

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
    order = list(places)
    rows = sorted(scores.systems, key=lambda row: order.index(row.system.name))
    pairs = sorted(scores.pairs, key=lambda pair: order.index(pair.first.name))
    return replace(scores, systems=tuple(rows), pairs=tuple(pairs)), [*left_out, *scores.not_compared]


def _system(name: str, found: Sequence[System]) -> System:
    if len(found) > 1:
        raise ValueError(
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
    columns: dict[str, str | None] = {"variant": None}
    for said in SCORES.values():
        columns |= dict.fromkeys((said, f"{said} from", f"{said} to"), ".1%")
    for said in SCORES.values():
        ends = (f"{said} difference from", f"{said} difference to")
        columns |= dict.fromkeys((f"{said} difference (points)", *ends), "+.1f")
    columns |= {"p": ".2g", "p adjusted": ".2g", "seconds": ".0f"}
    pairs = {pair.first.name: pair for pair in scores.pairs}
    rows = [_row(row, pairs.get(row.system.name)) for row in scores.systems]
    return make_table("ablation", _caption(scores, recipe), columns, rows)


def _caption(scores: GroupScores, recipe: str) -> str:
    systems, clips = [row.system for row in scores.systems], scores.group.clips
    said = CAPTION.format(
        recipe=recipe,
        where=where(clips),
        covered=systems[0].covered,
        seeds=", ".join(systems[0].seeds),
        baselines=baselines(scores),
    )
    synthetic = f" {SYNTHETIC}" if clips.corpus == "synthetic" else ""
    return f"{said}{synthetic}{explain_stars(systems)}"


def _row(row: SystemScores, pair: Pair | None) -> Row:
    system = row.system
    found: Row = {"variant": starred(system), "seconds": sum(fold.seconds for fold in system.folds) / len(system.runs)}
    for key, said in SCORES.items():
        found |= {said: row.estimates[key].value, **_ends(said, row.estimates[key], 1)}
        if pair is not None:
            estimate, heading = getattr(pair.comparison, key), f"{said} difference"
            found |= {f"{heading} (points)": 100 * estimate.value, **_ends(heading, estimate, 100)}
    if pair is not None:
        found |= {"p": pair.comparison.p_value, "p adjusted": pair.adjusted}
    return found


def _ends(heading: str, estimate: Estimate, scale: float) -> Row:
    low, high = (None, None) if estimate.clips is None else (scale * end for end in estimate.clips)
    return {f"{heading} from": low, f"{heading} to": high}


def _point(pair: Pair, key: str) -> dict[str, Any]:
    estimate = getattr(pair.comparison, key)
    return {
        "name": starred(pair.first),
        "value": estimate.value,
        "clips": estimate.clips,
        "speakers": estimate.speakers,
        "p_value": pair.adjusted if key == "accuracy" else None,  # McNemar's test is of accuracy
    }
