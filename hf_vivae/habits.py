"""What the 2022 report did that makes a score another one: settings of a run, and the sentences that mark its tables.

Each is off by default. `recipes/as_coded/` turns them on by the names of the report's differences.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

UNRESAMPLED = "the model is given unresampled sound"
# settings of a training in which no clips select; they follow from `select_on`
UNSELECTED = {"do_eval": False, "eval_strategy": "no", "load_best_model_at_end": False}


@dataclass
class ReportHabits:
    """Settings of a run that only reproducing the report, or another publication with its habits, has a use for."""

    as_coded: list[str] = field(
        default_factory=list,
        metadata={"help": "Switches of recipes/as_coded to turn on; --recipe as_coded turns on all of the model."},
    )
    resample: bool = field(
        default=True, metadata={"help": "false: pass the clips' samples on as if they had the model's rate."}
    )
    scale: Literal["peak", "full_scale"] = field(
        default="peak",
        metadata={"help": "Divide waveforms by the training clips' largest sample, or leave full scale at 1."},
    )
    select_on: Literal["validation", "none", "test"] = field(
        default="validation",
        metadata={
            "help": "Clips that pick the epoch. none or test: validation clips train too; none keeps the last epoch, "
            "test picks it by the clips that are scored, which marks the scores."
        },
    )
    watch_test: bool = field(
        default=False,
        metadata={"help": "Score the test clips after each epoch too, into history.jsonl; selects nothing."},
    )
    auc_split: Literal["test", "redrawn"] = field(
        default="test",
        metadata={"help": "redrawn: report the AUC on a random split drawn again, which holds training clips."},
    )
    auc_scores: Literal["probabilities", "logits"] = field(
        default="probabilities", metadata={"help": "What the reported AUC ranks clips by."}
    )
    loss_reduction: Literal["mean", "sum"] = field(
        default="mean", metadata={"help": "Report losses as mean over clips, or as sum over batches of their means."}
    )


def marks(habits: ReportHabits, eval_dropout: bool, selected: bool) -> list[str]:
    """A sentence for each habit that the scores of a run owe something to; they stand below its tables.

    Args:
        habits: of the run.
        eval_dropout: whether dropout stayed on while scoring.
        selected: whether an epoch was selected at all.
    """
    sentences = {
        "epochs or settings are selected on the test clips": habits.select_on == "test" and selected,
        "dropout is on while scoring": eval_dropout,
        UNRESAMPLED: not habits.resample,
    }
    return [sentence for sentence, true in sentences.items() if true]


def how_reported(habits: ReportHabits) -> str | None:
    """What the report's way of computing AUC and loss has changed, or None where nothing has."""
    ways: dict[str, Any] = {
        "AUC of logits": habits.auc_scores == "logits",
        "AUC on a redrawn split": habits.auc_split == "redrawn",
        "losses summed over batches": habits.loss_reduction == "sum",
    }
    return ", ".join(way for way, true in ways.items() if true) or None
