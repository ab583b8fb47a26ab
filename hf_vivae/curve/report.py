"""Table, figure and report of a curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluation.bootstrap import FEWEST
from ..evaluation.runs import EvaluationSet, Predictions
from ..files import write_json, write_text
from ..models import short_name
from ..reporting.plots import BLUE, CHANCE, SKY, VERMILION, blank_figure, wrap_text
from ..reporting.report import SYNTHETIC, Section, bullet_list, save_picture, write_report
from ..reporting.tables import FROM, TO, Row, Table, make_table
from ..training.arguments import RunArguments, VivaeTrainingArguments
from ..training.build import TrainingData, identity
from .scores import CurveScore, score_curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST_LINE = 80  # characters in a line of the title
COLUMNS = {
    "speakers": None, "clips": ".0f", "draws": "d", "UAR": ".1%", FROM: ".1%", TO: ".1%", "lowest draw": ".1%",
    "highest draw": ".1%", "gain (points)": "+.1f", "gain from": "+.1f", "gain to": "+.1f",
}  # fmt: skip
CAPTION = (
    "UAR of {model} on {where}, {covered}, seed {seed}. All rows are scored on the same {tested} clips of "
    "{testers} speakers, who train none of the models. Speakers are those that a model learns from, training and "
    "validation together, and clips are theirs, means over draws and folds. They are drawn at random from the fold's "
    "speakers; of one draw, fewer speakers are a subset of more. UAR is the mean over draws, with 95 % bounds of a "
    "bootstrap over test speakers and draws together. The bounds do not cover the training seed; and draws of most "
    "speakers have most of them in common, so that the bounds of the last rows cover little of the choice of training "
    "speakers. Gain is the difference from the row above on the same test speakers and draws. Chance is a UAR of "
    '{chance:.1%}. More speakers than those of the last row were not measured. "-": a single draw, fewer than '
    "{fewest} test speakers, or no row above."
)


@dataclass(frozen=True)
class Measurement:
    """Runs with one number of speakers.

    Args:
        everyone: true for all speakers.
        fewest: number of training and validation speakers of the fold with the fewest.
        most: that of the fold with the most.
        clips: number of their clips, mean over draws and folds.
        tests: test clips of each draw, over all folds.
    """

    everyone: bool
    fewest: int
    most: int
    clips: float
    tests: list[Predictions]

    @property
    def name(self) -> str:
        """Number of speakers, such as "10" or "all (103 to 105)"."""
        number = f"{self.fewest} to {self.most}" if self.fewest < self.most else str(self.fewest)
        return f"all ({number})" if self.everyone else number


@dataclass(frozen=True)
class CurveReport:
    """Folder of runs, table, figure and report, and the table as text, which is empty in all processes but one."""

    folder: Path
    text: str


def report_curve(
    folder: Path,
    run: RunArguments,
    args: VivaeTrainingArguments,
    data: TrainingData,
    points: Sequence[Measurement],
    caveats: Sequence[str],
    left_out: Sequence[str],
) -> CurveReport:
    """Write `curve.png`, `curve.csv`, `results.json`, `report.md` and `report.html`.

    Args:
        folder: folder of the curve.
        run: arguments of the run with all speakers.
        args: arguments of its training.
        data: its corpus.
        points: measurements by number of speakers, all speakers last.
        caveats: sentences on practices of publications that affect the scores.
        left_out: sentences on numbers of speakers that were not trained.
    """
    corpus, whole = data.corpus, points[-1].tests[0]
    label_map = corpus.label_map.name if corpus.label_map else ""
    clips = EvaluationSet(
        corpus.name, len(data.clips), run.task, run.protocol, len(data.folds), data.digest, label_map
    )
    folds, testers = sorted(set(whole.folds.tolist())), len(set(whole.speakers.tolist()))
    covered = "all folds" if len(folds) == len(data.folds) else f"fold {', '.join(folds)}"
    scores, chance = score_curve([point.tests for point in points], len(data.label_names)), 1 / len(data.label_names)
    model = " ".join([short_name(run.model), *([run.recipe] if run.recipe != "none" else [])])
    model += " *" if caveats else ""
    notes = [*left_out, *(f"* {caveat}." for caveat in caveats)]
    if testers < FEWEST:
        notes.append(f"No bounds, since {testers} speakers are tested and {FEWEST} are needed: test more --folds.")
    notes += [SYNTHETIC] if corpus.name == "synthetic" else []
    caption = CAPTION.format(
        model=model, where=clips.title, covered=covered, seed=args.seed, tested=len(whole), testers=testers,
        chance=chance, fewest=FEWEST,
    )  # fmt: skip
    table = curve_table(points, scores, caption)
    write_text(folder / "curve.csv", table.to_csv())
    title = f"{model} on {clips.title}, {covered}"
    band = ", the band its 95 % bounds over test speakers and draws" if testers >= FEWEST else ""
    about = (
        f"UAR against the number of training and validation speakers, {title}. Each circle is a draw of speakers, the "
        f"line the mean over draws{band}. The line ends with all speakers that are not tested."
    )
    figure = curve_figure(points, scores, f"{model}\n{clips.title}, {covered}", chance)
    picture = save_picture(folder, Path("curve.png"), figure, about)
    write_report(
        folder, f"Score against the number of speakers on {corpus.title}",
        [Section(title, [picture, table, *([bullet_list(notes)] if notes else [])])],
    )  # fmt: skip
    content = {
        **identity(run, args, data),
        "folds": folds,
        "test_clips": len(whole),
        "test_speakers": testers,
        "chance": chance,
        "points": [
            {"speakers": [point.fewest, point.most], "all": point.everyone, "clips": point.clips, **asdict(score)}
            for point, score in zip(points, scores, strict=True)
        ],
        "notes": notes,
    }
    write_json(folder / "results.json", content)
    return CurveReport(folder, "\n".join([table.to_markdown(), *notes]).rstrip())


def curve_table(points: Sequence[Measurement], scores: Sequence[CurveScore], caption: str) -> Table:
    """Return the table of a curve, with a row for each number of speakers."""
    rows = []
    for point, score in zip(points, scores, strict=True):
        row: Row = {"speakers": point.name, "clips": point.clips, "draws": len(score.draws), "UAR": score.uar}
        row |= dict(zip((FROM, TO), score.bounds or (None, None), strict=True))
        if len(score.draws) > 1:
            row |= {"lowest draw": min(score.draws), "highest draw": max(score.draws)}
        if score.gain is not None:
            row["gain (points)"] = 100 * score.gain
        if score.gain_bounds:
            row |= {f"gain {end}": 100 * bound for end, bound in zip(("from", "to"), score.gain_bounds, strict=True)}
        rows.append(row)
    return make_table("curve", caption, COLUMNS, rows)


def curve_figure(points: Sequence[Measurement], scores: Sequence[CurveScore], title: str, chance: float) -> Figure:
    """Return the figure of UAR over the number of speakers, whose axis is logarithmic to the base of 2.

    Args:
        points: measurements by number of speakers.
        scores: score of each.
        title: lines with model and clips, above the picture.
        chance: UAR of guessing.
    """
    from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

    figure = blank_figure(7, 4.4)
    axes = figure.add_subplot()
    axes.set_xscale("log", base=2)
    numbers = [(point.fewest + point.most) / 2 for point in points]
    for number, score in zip(numbers, scores, strict=True):
        if len(score.draws) > 1:
            axes.plot(
                [number] * len(score.draws), score.draws, "o", color=VERMILION, markersize=4, fillstyle="none",
                label="single draws", zorder=3,
            )  # fmt: skip
    if all(score.bounds for score in scores):
        low, high = zip(*(score.bounds for score in scores), strict=True)
        axes.fill_between(numbers, low, high, color=SKY, alpha=0.35, linewidth=0, label="95 % bounds of the mean")
    axes.plot(numbers, [score.uar for score in scores], "o-", color=BLUE, markersize=5, label="mean over draws")
    axes.axhline(chance, label=f"chance {chance:.1%}", zorder=0, **CHANCE)
    axes.xaxis.set_major_locator(FixedLocator(numbers))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(numbers, [point.name.replace(" ", "\n", 1) for point in points])
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlabel="speakers that train and validate", ylabel="UAR on unseen speakers")
    axes.grid(alpha=0.3)
    lines = [wrap_text(line, LONGEST_LINE) for line in title.splitlines()]
    figure.suptitle("\n".join(lines), fontsize="medium")
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=4, fontsize="small")
    return figure
