"""What each of the report's habits alone does to accuracy and AUC, and what the length of the sequence does."""

from collections.abc import Mapping
from difflib import get_close_matches
from statistics import median
from typing import Any

from ..models import MODELS
from ..validation import UserError
from .architecture import describe_folder
from .collection import Collection, StudyRun
from .study_rows import FROM, TO, Row, baselines, difference, habits, interval, make_table
from .tables import Table

OFF = "-off"  # ends the name of a run without a switch that `paper` has on
AUDIT = (
    "Audit on {corpus} clips: recipe paper with one habit of the report's notebook switched on. Figures are of the "
    "test clips, AUC and losses computed as the last column says where the switch changes that; such a switch is "
    "compared with the usual figures of the same weights, any other with the paper run of the same model and seed. "
    "Bounds are the 95 % Wilson interval of the accuracy without the switch: an effect within them may be chance, and "
    "so may one a little outside, since a difference is less certain than either accuracy and many are shown. "
    "{baselines}The macro AUC of both is 0.500. "
    'A habit that paper shares is on there and off in the run that it is compared with. "-": no paper run to '
    "compare with, a solver without epochs, or AUC and losses computed as usual."
)
PATCHES = (
    "Sequence length on {corpus} clips: the spectrogram ViT with patches of mel bins x frames; tokens are the "
    "patches and the class token. Accuracy, its 95 % Wilson interval and macro AUC are of the test clips; clips/s is "
    "the median over epochs and memory the largest of the process meanwhile, on {devices}. {baselines}The macro AUC "
    "of both is 0.500."
)
Described = Mapping[str, tuple[int, str, str]]


def audit_effects(collection: Collection, described: Described) -> list[dict[str, Any]]:
    """For each run of one switch alone, figures without and with it, by row and model.

    Each has `row`, `switch`, `model`, `seed` and `name` (switch and model); `accuracy_off`, `accuracy_on` and
    `accuracy`, on minus off, as shares of the test clips; `low`, `high` and `half_width` of the 95 % interval of
    `accuracy_off`; `macro_auc_off`, `macro_auc_on` and `macro_auc`; `loss_off` and `loss_on` (nats); `epoch_off` and
    `epoch_on`; and `computed`, how AUC and losses are where the switch changes that. All but the first five are None
    where the study has no run to compare with.

    Args:
        collection: with `audit` and `paper` runs.
        described: number of the difference, what the report says and what its notebook does, by switch.

    Raises:
        ValueError: for a run of a switch that is not described.
    """
    effects = [_effect(collection, run, described) for run in collection.of("audit")]
    return sorted(effects, key=lambda effect: (effect["row"], list(MODELS).index(effect["model"]), effect["seed"]))


def _effect(collection: Collection, run: StudyRun, described: Described) -> dict[str, Any]:
    switch = run.name.removesuffix(OFF)
    if switch not in described:
        close = get_close_matches(switch, described, 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(
            f"expected runs of the switches {', '.join(described)} in {run.folder.parent}, found {switch}{hint}; "
            "move it elsewhere."
        )
    found: dict[str, Any] = {"row": described[switch][0], "switch": switch, "model": run.model, "seed": run.seed}
    found["name"] = f"{switch}, {run.model}"
    off, on = _without_and_with(collection, run)
    for key in ("accuracy", "macro_auc", "loss", "epoch"):
        found |= {f"{key}_off": off.get(key), f"{key}_on": on.get(key)}
    for key in ("accuracy", "macro_auc"):
        found[key] = difference(on.get(key), off.get(key))
    bounds = interval(off.get("accuracy"), off.get("clips", 0))
    half = (bounds[TO] - bounds[FROM]) / 2 if off else None
    return {**found, "low": bounds[FROM], "high": bounds[TO], "half_width": half, "computed": on.get("computed")}


def _without_and_with(collection: Collection, run: StudyRun) -> tuple[dict[str, Any], dict[str, Any]]:
    if run.results["reported"] is not None:  # the switch changes how the same weights are scored, and nothing else
        return _figures(run), _figures(run) | _reported(run)
    paper = collection.find("paper", run.model, run.seed)
    if paper is None:
        return {}, {}
    pair = _figures(paper), _figures(run)
    return pair[::-1] if run.name.endswith(OFF) else pair


def _figures(run: StudyRun) -> dict[str, Any]:
    test, kept = run.results["test"], run.scored_epoch()
    figures = {key: test[key] for key in ("accuracy", "macro_auc", "loss")}
    return {**figures, "clips": test["n"], "epoch": kept and kept.epoch}


def _reported(run: StudyRun) -> dict[str, Any]:
    reported = run.results["reported"]
    changed = {"macro_auc": reported["macro_auc"], "computed": reported["how"]}
    if run.record["run"]["loss_reduction"] == "sum":
        changed["loss"] = run.scored_epoch().test["loss_sum"]
    return changed


def audit_tables(collection: Collection, described: Described) -> list[Table]:
    """The effect of each switch alone, and what the switches stand for.

    Args:
        collection: see `audit_effects`.
        described: see `audit_effects`.

    Raises:
        ValueError: see `audit_effects`.
    """
    effects = audit_effects(collection, described)
    columns = {"row": "d", "switch": None, "model": None, "seed": "d"}
    columns |= {"accuracy off": ".1%", FROM: ".1%", TO: ".1%", "accuracy on": ".1%", "effect (points)": "+.1f"}
    columns |= {"macro AUC off": ".3f", "macro AUC on": ".3f", "effect on AUC": "+.3f"}
    columns |= {"loss off": ".3f", "loss on": ".3f", "epoch off": "g", "epoch on": "g", "computed": None}
    runs = collection.of("audit")
    caption = AUDIT.format(corpus=collection.corpus, baselines=baselines(runs)) + habits(runs)
    rows = [_effect_row(effect) for effect in effects]
    return [make_table("audit", caption, columns, rows), _meanings(effects, described)]


def _effect_row(effect: Mapping[str, Any]) -> Row:
    row = {key: effect[key] for key in ("row", "switch", "model", "seed", "computed")}
    for name, key in (("accuracy", "accuracy"), ("macro AUC", "macro_auc"), ("loss", "loss"), ("epoch", "epoch")):
        row |= {f"{name} off": effect[f"{key}_off"], f"{name} on": effect[f"{key}_on"]}
    points = None if effect["accuracy"] is None else 100 * effect["accuracy"]
    bounds = {FROM: effect["low"], TO: effect["high"]}
    return {**row, **bounds, "effect (points)": points, "effect on AUC": effect["macro_auc"]}


def _meanings(effects: list[dict[str, Any]], described: Described) -> Table:
    columns = {"row": "d", "switch": None, "the report says": None, "its notebook does": None}
    rows = []
    for name in dict.fromkeys(effect["switch"] for effect in effects):
        row, says, does = described[name]
        rows.append(dict(zip(columns, (row, name, says, does), strict=True)))
    return make_table("audit-switches", "The switches of the audit, by the number of the difference.", columns, rows)


def patch_points(collection: Collection) -> list[dict[str, Any]]:
    """For each run of a patch size, by tokens: what its sequence costs and gives.

    Each has `patch` (mel bins x frames), `tokens` (patches and the class token), `parameters`, `seed`, `clips`,
    `accuracy` on test clips with `low` and `high` of its 95 % interval, `majority` (that of always saying the most
    frequent label of the training clips), `macro_auc`, `clips_per_second` in training (median over epochs),
    `peak_memory_mb` and `epochs`.

    Args:
        collection: with `patches` runs.
    """
    return sorted(map(_patch_point, collection.of("patches")), key=lambda point: (point["tokens"], point["seed"]))


def _patch_point(run: StudyRun) -> dict[str, Any]:
    sizes, test, epochs = describe_folder(run.folder), run.results["test"], run.epochs()
    bounds = interval(test["accuracy"], test["n"])
    return {
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


def patches_table(collection: Collection) -> Table:
    """Accuracy, AUC, speed and memory of the spectrogram ViT against the number of its tokens."""
    runs = collection.of("patches")
    devices = ", ".join(sorted({run.record["environment"]["device"] for run in runs}))
    columns = {"patch": None, "tokens": "d", "parameters": ",", "seed": "d", "clips": "d", "accuracy": ".1%"}
    columns |= {FROM: ".1%", TO: ".1%", "majority": ".1%", "macro AUC": ".3f"}
    columns |= {"training clips/s": ".1f", "peak memory (MB)": ".0f"}
    rows = [dict(zip((*columns, "epochs"), point.values(), strict=True)) for point in patch_points(collection)]
    caption = PATCHES.format(corpus=collection.corpus, devices=devices, baselines=baselines(runs)) + habits(runs)
    return make_table("patches", caption, {**columns, "epochs": "g"}, rows)
