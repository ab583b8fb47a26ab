"""Effect of each deviation of the paper's code, and of patch sizes: tables and figures."""

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from ..models import MODELS
from ..reporting.plots import BLACK, BLUE, CHANCE, LIGHT_GREY, MAJORITY, VERMILION, blank_figure
from ..reporting.tables import FROM, SCORE_NAMES, TO, Table, make_table
from ..validation import UserError, did_you_mean
from .architecture import describe_folder
from .runs import OFF, Collection, StudyRun
from .tables import baselines, difference, explain_caveats, interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


AUDIT = (
    "Audit on {corpus} clips: recipe paper without (off) and with (on) one deviation of the paper's notebook, named "
    "in the column switch. Figures are of the test clips, with AUC and losses computed as in the last column where "
    "the deviation changes that; such a deviation is compared with the usual figures of the same weights, any other "
    "with the paper run of the same model and seed. Bounds are the 95 % Wilson interval of the accuracy without the "
    "deviation: an effect within them may be chance, and so may one a little outside, since a difference is less "
    "certain than either accuracy and many are shown. "
    "{baselines}The macro AUC of both is 0.500. "
    'A deviation that recipe paper has, too, is off in the run that it is compared with. "-": no paper run to '
    "compare with, a solver without epochs, or AUC and losses computed as usual."
)
PATCHES = (
    "Sequence length on {corpus} clips: the spectrogram ViT with patches of mel bins x frames; tokens are the "
    "patches and the class token. Accuracy, its 95 % Wilson interval and macro AUC are of the test clips; clips/s is "
    "the median over epochs, and memory the peak of the training process, on {devices}. {baselines}The macro AUC of "
    "both is 0.500."
)
Described = Mapping[str, tuple[int, str, str]]


def audit_effects(collection: Collection, described: Described) -> list[dict[str, Any]]:
    """Return, for each run of a single deviation, the figures without and with it, by row and model.

    Each has `row`, `switch`, `model`, `seed` and `name` (deviation and model); `accuracy_off`, `accuracy_on` and
    `accuracy`, on minus off, as shares of the test clips; `low`, `high` and `half_width` of the 95 % interval of
    `accuracy_off`; `macro_auc_off`, `macro_auc_on` and `macro_auc`; `loss_off` and `loss_on` (nats); `epoch_off` and
    `epoch_on`; and `computed`, the computation of AUC and losses where the deviation changes it. All but the first
    five are None where the study has no run to compare with.

    Args:
        collection: with `audit` and `paper` runs.
        described: by deviation its number, the paper's text and the practice of its notebook.

    Raises:
        UserError: for a run of a deviation that is not described.
    """
    effects = [_effect(collection, run, described) for run in collection.of("audit")]
    return sorted(effects, key=lambda effect: (effect["row"], list(MODELS).index(effect["model"]), effect["seed"]))


def _effect(collection: Collection, run: StudyRun, described: Described) -> dict[str, Any]:
    deviation = run.name.removesuffix(OFF)
    if deviation not in described:
        raise UserError(
            f"expected runs of the deviations {', '.join(described)} in {run.folder.parent}, found {deviation}"
            f"{did_you_mean(deviation, described)}; move it elsewhere."
        )
    effect: dict[str, Any] = {"row": described[deviation][0], "switch": deviation, "model": run.model}
    effect |= {"seed": run.seed, "name": f"{deviation}, {run.model}"}
    off, on = _without_and_with(collection, run)
    for key in ("accuracy", "macro_auc", "loss", "epoch"):
        effect |= {f"{key}_off": off.get(key), f"{key}_on": on.get(key)}
    for key in ("accuracy", "macro_auc"):
        effect[key] = difference(on.get(key), off.get(key))
    bounds = interval(off.get("accuracy"), off.get("clips", 0))
    half = (bounds[TO] - bounds[FROM]) / 2 if off else None
    return {**effect, "low": bounds[FROM], "high": bounds[TO], "half_width": half, "computed": on.get("computed")}


def _without_and_with(collection: Collection, run: StudyRun) -> tuple[dict[str, Any], dict[str, Any]]:
    reported = run.results["reported"]
    if reported is not None:  # the deviation only changes the scoring of the same weights
        changed = {"macro_auc": reported["macro_auc"], "computed": reported["how"]}
        if run.record["run"]["loss_reduction"] == "sum":
            changed["loss"] = run.scored_epoch().test["loss_sum"]
        return _figures(run), _figures(run) | changed
    paper = collection.find("paper", run.model, run.seed)
    if paper is None:
        return {}, {}
    pair = _figures(paper), _figures(run)
    return pair[::-1] if run.name.endswith(OFF) else pair


def _figures(run: StudyRun) -> dict[str, Any]:
    test, kept = run.results["test"], run.scored_epoch()
    figures = {key: test[key] for key in ("accuracy", "macro_auc", "loss")}
    return {**figures, "clips": test["n"], "epoch": kept and kept.epoch}


def audit_tables(collection: Collection, described: Described) -> list[Table]:
    """Return a table of the effect of each deviation alone, and one that describes the deviations.

    Args:
        collection: see `audit_effects`.
        described: see `audit_effects`.

    Raises:
        UserError: see `audit_effects`.
    """
    effects = audit_effects(collection, described)
    columns = {"row": "d", "switch": None, "model": None, "seed": "d"}
    columns |= {"accuracy off": ".1%", FROM: ".1%", TO: ".1%", "accuracy on": ".1%", "effect (points)": "+.1f"}
    columns |= {"macro AUC off": ".3f", "macro AUC on": ".3f", "effect on AUC": "+.3f"}
    columns |= {"loss off": ".3f", "loss on": ".3f", "epoch off": "g", "epoch on": "g", "computed": None}
    runs = collection.of("audit")
    caption = AUDIT.format(corpus=collection.corpus, baselines=baselines(runs)) + explain_caveats(runs)
    rows = []
    for effect in effects:
        row = {key: effect[key] for key in ("row", "switch", "model", "seed", "computed")}
        for key in ("accuracy", "macro_auc", "loss", "epoch"):
            name = SCORE_NAMES.get(key, key)
            row |= {f"{name} off": effect[f"{key}_off"], f"{name} on": effect[f"{key}_on"]}
        points = None if effect["accuracy"] is None else 100 * effect["accuracy"]
        bounds = {FROM: effect["low"], TO: effect["high"]}
        rows.append({**row, **bounds, "effect (points)": points, "effect on AUC": effect["macro_auc"]})
    meanings = {"row": "d", "switch": None, "the paper's text": None, "its notebook": None}
    meaning_rows = []
    for name in dict.fromkeys(effect["switch"] for effect in effects):
        number, text, notebook = described[name]
        meaning_rows.append(dict(zip(meanings, (number, name, text, notebook), strict=True)))
    title = "The deviations of the audit, by their number."
    return [make_table("audit", caption, columns, rows), make_table("audit-switches", title, meanings, meaning_rows)]


def patch_points(collection: Collection) -> list[dict[str, Any]]:
    """Return cost and scores of each run of a patch size, by tokens.

    Each has `patch` (mel bins x frames), `tokens` (patches and the class token), `parameters`, `seed`, `clips`,
    `accuracy` on test clips with `low` and `high` of its 95 % interval, `majority` (accuracy of always predicting the
    most frequent label of the training clips), `macro_auc`, `clips_per_second` in training (median over epochs),
    `peak_memory_mb` and `epochs`.

    Args:
        collection: with `patches` runs.
    """
    points = []
    for run in collection.of("patches"):
        sizes, test, epochs = describe_folder(run.folder), run.results["test"], run.epochs()
        bounds = interval(test["accuracy"], test["n"])
        point = {
            **{key: sizes[key] for key in ("patch", "tokens", "parameters")},
            "seed": run.seed,
            "clips": test["n"],
            "accuracy": test["accuracy"],
            "low": bounds[FROM],
            "high": bounds[TO],
            "majority": test["majority"]["accuracy"],
            "macro_auc": test["macro_auc"],
            "clips_per_second": median(epoch.train["clips_per_second"] for epoch in epochs),
            "peak_memory_mb": run.record["peak_memory_mb"],
            "epochs": epochs[-1].epoch,
        }
        points.append(point)
    return sorted(points, key=lambda point: (point["tokens"], point["seed"]))


def patches_table(collection: Collection) -> Table:
    """Return the table of accuracy, AUC, speed and memory of the spectrogram ViT by its number of tokens."""
    runs = collection.of("patches")
    devices = ", ".join(sorted({run.record["environment"]["device"] for run in runs}))
    columns = {"patch": None, "tokens": "d", "parameters": ",", "seed": "d", "clips": "d", "accuracy": ".1%"}
    columns |= {FROM: ".1%", TO: ".1%", "majority": ".1%", "macro AUC": ".3f"}
    columns |= {"training clips/s": ".1f", "peak memory (MB)": ".0f"}
    rows = [dict(zip((*columns, "epochs"), point.values(), strict=True)) for point in patch_points(collection)]
    caption = PATCHES.format(corpus=collection.corpus, devices=devices, baselines=baselines(runs))
    return make_table("patches", caption + explain_caveats(runs), {**columns, "epochs": "g"}, rows)


PANELS = {
    "accuracy": "accuracy, with 95 % interval",
    "macro_auc": "macro AUC",
    "clips_per_second": "training clips/s",
    "peak_memory_mb": "peak memory (MB)",
}


def patches_figure(points: Sequence[Mapping[str, Any]], title: str, chance: float) -> "Figure":
    """Return a figure of accuracy, macro AUC, speed and memory against the number of tokens, a panel each.

    Args:
        points: those of `patch_points`; a value that is None is named as undefined in its panel.
        title: model and clips, above the picture.
        chance: accuracy of guessing.
    """
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    ordered = sorted(points, key=lambda point: point["tokens"])
    figure = blank_figure(10, 7)
    panels = dict(zip(PANELS, figure.subplots(2, 2, sharex=True).flat, strict=True))
    for key, axes in panels.items():
        _scatter(axes, ordered, key)
        axes.set(ylabel=PANELS[key], xscale="log")
        axes.margins(x=0.22, y=0.15)
        if key not in ("accuracy", "macro_auc"):
            axes.set(xlabel="tokens (log scale)")
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
    panels["accuracy"].axhline(chance, label="chance", **CHANCE)
    majority = fmean(point["majority"] for point in points)  # seeds have splits of their own
    panels["accuracy"].axhline(majority, label="majority", **MAJORITY)
    panels["macro_auc"].axhline(0.5, **CHANCE)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    figure.suptitle(title)
    return figure


def _scatter(axes: "Axes", points: Sequence[Mapping[str, Any]], key: str) -> None:
    defined = [point for point in points if point[key] is not None]
    tokens, values = [point["tokens"] for point in defined], [point[key] for point in defined]
    if key == "accuracy":
        errors = [[p["accuracy"] - p["low"] for p in defined], [p["high"] - p["accuracy"] for p in defined]]
        axes.errorbar(tokens, values, yerr=errors, fmt="o", color=BLUE, capsize=3)
    else:
        axes.plot(tokens, values, "o", color=BLUE)
    for point, side in zip(defined, _free_sides(tokens), strict=True):
        axes.annotate(
            point["patch"],
            (point["tokens"], point[key]),
            xytext=(-6 if side == "left" else 6, 0),
            textcoords="offset points",
            ha="right" if side == "left" else "left",
            va="center",
            fontsize="small",
        )
    missing = [point["patch"] for point in points if point[key] is None]
    if missing:
        axes.set_title(f"undefined for {', '.join(missing)}", fontsize="small")


def _free_sides(tokens: Sequence[int]) -> list[str]:
    """Return the side of each point, in ascending order, on which the next one is further away on a log scale."""
    if not tokens:
        return []
    ratios = [math.inf, *(after / before for before, after in itertools.pairwise(tokens)), math.inf]
    return ["left" if right < left else "right" for left, right in itertools.pairwise(ratios)]


def audit_figure(effects: Sequence[Mapping[str, Any]], title: str) -> "Figure":
    """Return the effect of each deviation alone on accuracy and macro AUC, as bars from zero.

    Args:
        effects: those of `audit_effects` that have a run to compare with, from the top.
        title: clips, above the picture.
    """
    figure = blank_figure(10, 1.6 + 0.3 * len(effects))
    left, right = figure.subplots(1, 2, sharey=True)
    positions = range(len(effects))
    widths = [100 * effect["half_width"] for effect in effects]
    left.barh(
        positions,
        [2 * width for width in widths],
        left=[-width for width in widths],
        height=1,
        color=LIGHT_GREY,
        label="95 % interval of the accuracy without the deviation",
    )
    _bars(left, [100 * effect["accuracy"] for effect in effects], "{:+.1f}", least=5)
    _bars(right, [effect["macro_auc"] for effect in effects], "{:+.3f}", least=0.05)
    left.set(xlabel="effect on accuracy (points)", ylim=(len(effects) - 0.5, -0.5))
    left.set_yticks(positions, [effect["name"] for effect in effects])
    right.set(xlabel="effect on macro AUC")
    figure.suptitle(title)
    figure.legend(loc="outside lower center", fontsize="small")
    return figure


def _bars(axes: "Axes", values: Sequence[float | None], form: str, least: float) -> None:
    """Draw bars with their values; the axis reaches `least` on both sides, so that a small effect looks small."""
    lengths = [0 if value is None else value for value in values]
    colours = [VERMILION if length < 0 else BLUE for length in lengths]
    bars = axes.barh(range(len(values)), lengths, height=0.6, color=colours)
    texts = ["undefined" if value is None else form.format(value) for value in values]
    axes.bar_label(bars, texts, padding=3, fontsize="small")
    axes.axvline(0, color=BLACK, linewidth=0.8)
    axes.use_sticky_edges = False
    axes.margins(x=0.22)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -least), max(high, least))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
