"""Training of the runs of a curve, and the facts of each number of speakers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..evaluation.runs import Predictions, read_part
from ..files import claim
from ..run_folder import check_report_folder
from ..splits.speakers import check_speakers
from ..training.build import check_run_folder, load_training_data
from ..training.run import train_in_study
from .plan import PlannedRun, plan_curve, select_runs
from .report import CurveReport, Measurement, report_curve


def measure_curve(argv: Sequence[str], recipes: Path) -> CurveReport:
    """Train the unfinished runs of a curve, and write its table, figure and report.

    Args:
        argv: flags of `recipes/curve.py`: those of `CurveArguments` and of `recipes/train.py`.
        recipes: folder of the recipes.

    Raises:
        UserError: as for `plan_curve`; before anything is trained, as for `select_runs` and for run folders of another
            version or other settings; for arguments that training refuses; and where a run fails, with its folder:
            those before it stay.
    """
    plan = plan_curve(argv, recipes)
    check_report_folder(plan.output, "points")
    whole = plan.runs[-1]
    first = whole.training.process_index == 0
    with claim(plan.output) if first else nullcontext():
        with whole.training.main_process_first(desc="reading corpus"):
            corpus = whole.arguments.load()
            check_speakers((), corpus.dataset["speaker"][:])  # first: a protocol would recommend one without speakers
            data = load_training_data(whole.arguments, whole.training.seed, corpus)
        runs, left_out = select_runs(plan, data.folds, data.corpus.dataset["speaker"][:])
        for run in runs:
            check_run_folder(run.arguments, run.training, data)
        trained: list[tuple[PlannedRun, list[Path]]] = []
        habits: list[str] = []
        progress = tqdm(runs, desc="curve", unit="run", disable=not first)
        for run in progress:
            progress.set_postfix_str(run.folder.relative_to(plan.output / "runs").as_posix())
            results, folders = train_in_study(run.arguments, run.training, data.corpus)
            trained.append((run, folders))
            habits = results["habits"]
        if not first:
            return CurveReport(plan.output, "")
        sizes = list(dict.fromkeys(run.speakers for run, _ in trained))
        points = [_measure(size, [folders for run, folders in trained if run.speakers == size]) for size in sizes]
        return report_curve(plan.output, whole.arguments, whole.training, data, points, habits, left_out)


def _measure(size: int | None, folders: Sequence[Sequence[Path]]) -> Measurement:
    """Return the test clips of each draw, and the number of speakers and clips that the models learnt from."""
    tests: list[Predictions] = [read_part(of_draw, "test") for of_draw in folders]
    speakers, clips = [], []
    for folder in (folder for of_draw in folders for folder in of_draw):
        parts = [part for name in ("train", "validation") if (part := read_part([folder], name)) is not None]
        speakers.append(len(np.unique(np.concatenate([part.speakers for part in parts]))))
        clips.append(sum(map(len, parts)))
    return Measurement(size is None, min(speakers), max(speakers), float(np.mean(clips)), tests)
