"""Arguments of a curve, and its runs: draws of fewer and more speakers, and all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..cli_parser import FlagParser
from ..splits.folds import Fold
from ..splits.speakers import check_speakers, count_speakers
from ..training.arguments import RunArguments, VivaeTrainingArguments
from ..training.recipes import default_output_dir, parse_run, run_parser
from ..validation import UserError

SIZES = (10, 20, 40, 80)
DESCRIPTION = (
    "Train a model on more and more speakers, and draw its score against their number.\n\n"
    "python recipes/curve.py --model mlp --data synthetic --speakers 2 4 6"
)
EPILOG = "All arguments of recipes/train.py are taken too, and hold for every run."


@dataclass
class CurveArguments:
    """Arguments of a curve; all others are those of `recipes/train.py`, and hold for every run."""

    speakers: list[int] | None = field(
        default=None,
        metadata={
            "help": "Numbers of speakers that train and validate; by default those of 10, 20, 40 and 80 below all. "
            "All speakers are always the last point."
        },
    )
    draws: int = field(default=5, metadata={"help": "Random draws of each number of speakers."})
    protocol: str = field(
        default="speaker-k-fold", metadata={"help": "Division into folds, one that keeps speakers apart."}
    )
    folds: list[int] = field(
        default_factory=lambda: [0],
        metadata={"help": "Numbers of the folds to run, counted from 0; their test clips are scored together."},
    )
    output_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder of runs and report; runs/<data>/curve/<recipe>-<model>-<protocol>-<task> by default."
        },
    )

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UserError(f"expected --draws of 1 or more, found {self.draws}; 5 show how much the draw matters.")
        sizes = self.speakers or []
        if small := [size for size in sizes if size < 2]:
            raise UserError(
                f"expected --speakers of 2 or more, one each to train and validate, found {small[0]}; give larger "
                "numbers."
            )
        if len(set(sizes)) < len(sizes):
            raise UserError(
                f"expected each of --speakers once, found {' '.join(map(str, sizes))}; --draws gives several draws "
                "of each."
            )


@dataclass(frozen=True)
class PlannedRun:
    """One run of a curve.

    Args:
        speakers: number of its training and validation speakers; None for all.
        draw: seed of their draw.
        folder: folder of the run.
        arguments: arguments of the run.
        training: arguments of its training.
    """

    speakers: int | None
    draw: int
    folder: Path
    arguments: RunArguments
    training: VivaeTrainingArguments


@dataclass(frozen=True)
class Plan:
    """Runs of a curve.

    Args:
        output: folder of the curve.
        runs: by number of speakers and draw, that of all speakers last.
        chosen: true where the numbers were given with `--speakers`.
    """

    output: Path
    runs: list[PlannedRun]
    chosen: bool


def plan_curve(argv: Sequence[str], recipes: Path) -> Plan:
    """Return the runs of a command line.

    Args:
        argv: as for `measure_curve`.
        recipes: folder of the recipes.

    Raises:
        UserError: for numbers of speakers below 2 or given twice, for less than one draw, and for arguments that
            `recipes/train.py` refuses or that a curve sets by itself.
    """
    parser = FlagParser(CurveArguments, base=run_parser(), description=DESCRIPTION, epilog=EPILOG)
    namespace, flags = parser.parse_known_args(list(argv))
    curve = CurveArguments(**vars(namespace))
    if any(flag.partition("=")[0] == "--config" for flag in flags):
        raise UserError("a curve changes the speakers of a run, found --config, which repeats one; give its --model.")
    shared = {"protocol": curve.protocol, "folds": curve.folds}
    whole, args = parse_run(flags, recipes, shared)
    if whole.train_speakers is not None:
        raise UserError(
            f"a curve draws several numbers of speakers, found --train_speakers {whole.train_speakers}; give "
            "--speakers and --draws instead."
        )
    default = Path(default_output_dir(whole, args.seed))
    stem = default.name.removesuffix(f"-seed{args.seed}")
    output = Path(curve.output_dir or Path("runs", whole.folder_name, "curve", f"{default.parent.name}-{stem}"))
    sizes = sorted(SIZES if curve.speakers is None else curve.speakers)
    runs = []
    for size, draw in [*((size, draw) for size in sizes for draw in range(curve.draws)), (None, 0)]:
        folder = output / "runs" / ("all" if size is None else f"{size}-speakers/draw{draw}")
        own = {"train_speakers": size, "speaker_draw": draw, "output_dir": str(folder)}
        runs.append(PlannedRun(size, draw, folder, *parse_run(flags, recipes, shared | own)))
    return Plan(output, runs, curve.speakers is not None)


def select_runs(
    plan: Plan, folds: Sequence[Fold], speakers: Sequence[str | None]
) -> tuple[list[PlannedRun], list[str]]:
    """Return the runs with fewer speakers than the folds have and that of all, and a sentence on those left out.

    Args:
        plan: whose numbers of speakers are compared with the folds.
        folds: all folds of the protocol.
        speakers: name of each clip's speaker, `(clips,)`.

    Raises:
        UserError: for clips without a speaker, speakers in two parts of a fold, numbers given with `--speakers`
            that are not below that of the speakers of each fold, and where no number is.
    """
    check_speakers(folds, speakers)
    smallest = min(folds, key=lambda fold: count_speakers(fold, speakers))
    available = count_speakers(smallest, speakers)
    large = sorted({run.speakers for run in plan.runs if run.speakers is not None and run.speakers >= available})
    if not large:
        return plan.runs, []
    listed = ", ".join(map(str, large))
    runs = [run for run in plan.runs if run.speakers not in large]
    if plan.chosen or len(runs) == 1:
        raise UserError(
            f"expected --speakers from 2 to {available - 1}, since {available} speakers train and validate in fold "
            f"{smallest.name} and all of them are the last point in any case, found {listed}; give smaller numbers."
        )
    return runs, [f"Not below the {available} speakers of fold {smallest.name}, and left out: {listed}."]
