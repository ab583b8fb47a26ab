"""The best trial as a run of `recipes/train.py`: its recipe, and the command that trains it."""

import math
import os
import shlex
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from .. import runs
from ..arguments import RunArguments, VivaeTrainingArguments
from ..corpus.download import bare_address
from ..corpus_arguments import CorpusArguments
from ..habits import UNSELECTED
from ..models import short_name, split_name
from ..parsing import as_flags
from ..runs import VOLATILE

FOUND = "found"  # the recipe that the command uses
# which clips, and how they are split: what the command line says, and not a recipe
ALWAYS_SAID = ("data", "protocol")
SAID = (
    *(f.name for f in fields(CorpusArguments)), "task", "duplicates", "num_groups", "seed", "trust_remote_code",
)  # fmt: skip
NOT_OF_A_RECIPE = {*ALWAYS_SAID, *SAID, *VOLATILE, "model", "recipe", "as_coded", "greater_is_better"}


@dataclass(frozen=True)
class Winner:
    """The run of the best trial.

    Args:
        run: what to train on what.
        args: how to train.
        searched: what each key of the search space was chosen out of.
        fold: number of the fold that was searched, the only one whose test clips no trial has seen; None where the
            protocol has no other.
    """

    run: RunArguments
    args: VivaeTrainingArguments
    searched: dict[str, str]
    fold: int | None

    def recipe(self) -> dict[str, Any]:
        """What was searched, and what else differs from the defaults and is of a recipe."""
        named = {key.split(".")[0] for key in self.searched}
        left_out = NOT_OF_A_RECIPE | (UNSELECTED.keys() if self.run.select_on == "none" else set())
        changed = self._changed()
        return {name: value for name, value in self._all().items() if name in named | (changed - left_out)}

    def _all(self) -> dict[str, Any]:
        return {**asdict(self.run), **self.args.to_dict()}

    def _changed(self) -> set[str]:
        plain = RunArguments(model=self.run.model), VivaeTrainingArguments(output_dir=self.args.output_dir)
        default = {**asdict(plain[0]), **plain[1].to_dict()}
        return {name for name, value in self._all().items() if value != default[name]}

    def write_recipe(self, folder: Path, head: str) -> Path:
        """Write the recipe; its path.

        It has the name that a recipe of the model has: its own, or that of its kind, such as `probe`.

        Args:
            folder: where it goes.
            head: first lines, without the marks of a comment.
        """
        lines = [f"# {line}" for line in head.splitlines()]
        for key, value in self.recipe().items():
            lines += _lines(key, value, self.searched)
        path = folder / f"{split_name(self.run.model)[0].removesuffix(':') or short_name(self.run.model)}.yaml"
        runs.write_text(path, "\n".join(lines) + "\n")
        return path

    def command(self, recipe: Path, recipes: Path) -> str:
        """Lines for a shell in the present folder that train the run on the clips and the fold of the search.

        Args:
            recipe: as `write_recipe` has written it; goes into a folder of `recipes`, where the model can have one.
            recipes: folder of the recipes.
        """
        changed = self._changed()
        said = {name: value for name, value in self._all().items() if name in ALWAYS_SAID or name in changed & {*SAID}}
        said |= {} if self.fold is None else {"folds": [self.fold]}
        said |= {"data_url": bare_address(self.run.data_url)} if self.run.data_url else {}
        script = os.path.relpath(recipes / "train.py")
        if self.run.recipe == "none":
            train = as_flags({"model": self.run.model, **said, **self.recipe()})
            return shlex.join(["python", script, *train])
        own = os.path.relpath(recipes / FOUND)
        train = as_flags({"model": self.run.model, "recipe": FOUND, **said})
        lines = (["mkdir", "-p", own], ["cp", str(recipe), own], ["python", script, *train])
        return "\n".join(map(shlex.join, lines))


def _lines(key: str, value: Any, searched: dict[str, str]) -> list[str]:
    if not (isinstance(value, dict) and any(name.startswith(f"{key}.") for name in searched)):
        return [_line(key, value, searched.get(key))]
    inner = [f"  {_line(name, field, searched.get(f'{key}.{name}'))}" for name, field in value.items()]
    return [f"{key}:", *inner]


def _line(key: str, value: Any, chosen_from: str | None) -> str:
    text = (
        yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False).removesuffix("...\n").strip()
    )
    return f"{key}: {text}" + (f" # searched: {chosen_from}" if chosen_from else "")
