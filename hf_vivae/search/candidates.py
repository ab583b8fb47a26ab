"""Values of a trial as the run that `recipes/train.py` would make with them; refused as its flags would be."""

import textwrap
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..arguments import RunArguments, VivaeTrainingArguments
from ..corpus_arguments import CorpusArguments
from ..flags import did_you_mean
from ..habits import ReportHabits
from ..parsing import as_flags, parse_run
from ..runs import VOLATILE
from ..validation import UserError
from .space import Space

# what makes scores comparable, and what all trials start from
SHARED = (
    *(f.name for f in fields(CorpusArguments)), *(f.name for f in fields(ReportHabits)), "model", "recipe", "task",
    "protocol", "duplicates", "num_groups", "folds", "seed", "data_seed", "metric_for_best_model", "greater_is_better",
    "load_best_model_at_end", "eval_dropout", "eval_strategy", "eval_steps", "eval_delay", "model_name_or_path",
    "from_scratch", "trust_remote_code",
)  # fmt: skip
LONGEST_REASON = 400  # letters of an error of other libraries, some of which list all that they know


@dataclass(frozen=True)
class Candidates:
    """Runs that differ from one another in what is searched.

    Args:
        argv: flags that all of them share.
        recipes: folder of the recipes.
        run: what `argv` says to train on what.
        args: what `argv` says of how to train.
    """

    argv: list[str]
    recipes: Path
    run: RunArguments
    args: VivaeTrainingArguments

    def with_values(self, values: dict[str, Any]) -> tuple[RunArguments, VivaeTrainingArguments]:
        """The run with these values in place of its own, parsed as flags that come last.

        Args:
            values: by the keys of a search space: the name of a flag, or `<flag>.<field>` of a dictionary.

        Raises:
            ValueError: see `parse_run`.
        """
        return parse_run([*self.argv, *as_flags(self._settings(values))], self.recipes)

    def _settings(self, values: dict[str, Any]) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for key, value in values.items():
            name, _, field = key.partition(".")
            settings[name] = {**settings.get(name, self._own(name) or {}), field: value} if field else value
        return settings

    def _own(self, name: str) -> Any:
        return getattr(self.run if hasattr(self.run, name) else self.args, name)

    def check(self, space: Space, source: Path) -> None:
        """Refuse a space whose ends or choices the flags refuse.

        Raises:
            ValueError: naming the line and, in the flag's own words, what is wrong with it.
        """
        for key, dimension in space.items():
            self._check_key(key, space, source)
            for value in dimension.edges:
                try:
                    self.with_values({key: value})
                except ValueError as error:
                    raise refusal(key, value, source, error) from error

    def _check_key(self, key: str, space: Space, source: Path) -> None:
        name, _, field = key.partition(".")
        known = [f.name for owner in (self.run, self.args) for f in fields(owner) if f.init]
        if name not in known:
            raise UserError(f"{source} has an unknown key {key!r}{did_you_mean(name, known)}; correct or remove it.")
        if name in SHARED or name in VOLATILE:
            raise UserError(f"{source} has the key {key!r}, which all trials have in common; give it as a flag.")
        if field and not isinstance(self._own(name) or {}, dict):
            raise UserError(f"{source} has the key {key!r}, but {name} has no fields; remove the dot.")
        if field and name in space:
            raise UserError(f"{source} has both {name!r} and {key!r}, which is a part of it; remove one of them.")


def refusal(key: str, value: Any, source: Path, error: Exception) -> UserError:
    """The error of a value that a run refuses, as that of the line in the search space which it is from."""
    said = reason(error) if isinstance(error, ValueError) else named(error)
    return UserError(f"{source} lets {key} be {value!r}, which is refused: {said}")


def named(error: Exception) -> str:
    """What an error says, and of which kind it is: a `KeyError` says no more than a key."""
    return f"{type(error).__name__}: {reason(error)}"


def reason(error: Exception) -> str:
    """What an error says, in one line of bearable length."""
    return textwrap.shorten(str(error), LONGEST_REASON, placeholder=" ...")
