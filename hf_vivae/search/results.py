"""What a search leaves: its trials as a table, and the best of them."""

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import runs
from ..validation import UserError

STATES = ("complete", "pruned", "failed", "running")


@dataclass(frozen=True)
class TrialRow:
    """A trial.

    Args:
        name: its number, or what Ray calls it.
        state: one of `STATES`.
        score: best over its epochs; None unless it is complete.
        values: by the keys of the search space.
        scorings: how often it was scored, which is once an epoch.
        seconds: that it took; None where that is not known.
        error: why it failed; None where it has not, or that is not known.
    """

    name: str
    state: str
    score: float | None
    values: dict[str, Any]
    scorings: int
    seconds: float | None
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """All trials of a search in their order, and the importance of each hyperparameter, which some have none of."""

    trials: list[TrialRow]
    importance: dict[str, float] | None

    @property
    def states(self) -> dict[str, int]:
        """How many trials are in each state."""
        counted = Counter(trial.state for trial in self.trials)
        return {state: counted[state] for state in STATES if counted[state]}

    @property
    def scored(self) -> list[TrialRow]:
        """The complete trials whose score is a number."""
        return [trial for trial in self.trials if trial.score is not None and math.isfinite(trial.score)]

    @property
    def errors(self) -> list[str]:
        """Why trials failed, each with the number of the trial."""
        return [f"trial {trial.name}: {trial.error}" for trial in self.trials if trial.error]

    def best(self, greater_is_better: bool) -> TrialRow:
        """The complete trial with the best score, the first of several.

        Raises:
            ValueError: where none has a score.
        """
        if not self.scored:
            why = f" ({self.errors[0]})" if self.errors else ""
            raise UserError(
                f"expected a complete trial with a score, found none of {len(self.trials)}{why}; "
                "change the search space, or add --trials."
            )
        return (max if greater_is_better else min)(self.scored, key=lambda trial: trial.score)


def write_trials(file: Path, outcome: Outcome) -> None:
    """Write `trials.csv`, a line for each trial."""
    import pandas as pd

    rows = [{**{k: v for k, v in asdict(trial).items() if k != "values"}, **trial.values} for trial in outcome.trials]
    runs.write_text(file, pd.DataFrame(rows).to_csv(index=False))
