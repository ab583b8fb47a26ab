"""Search spaces: YAML files with the range or the choices of each hyperparameter."""

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..files import read_yaml
from ..validation import UserError, did_you_mean

if TYPE_CHECKING:
    import optuna


LARGEST = 2**53  # floats represent every whole number up to it
EXAMPLE = "`learning_rate: {low: 1e-6, high: 1e-3, log: true}` or `weight_decay: {choices: [0, 0.01]}`"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones where both are whole.

    Args:
        low: smallest.
        high: largest.
        log: draw each power of ten with the same probability, rather than each number.
    """

    low: float
    high: float
    log: bool = False

    @property
    def edges(self) -> list[Any]:
        """Return the values to check before a search: an argument that takes both ends takes all between them."""
        return [self.low, self.high]

    @property
    def whole(self) -> bool:
        """Return whether its numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def suggest(self, trial: "optuna.Trial", name: str) -> float:
        """Return a number that Optuna chooses."""
        suggest = trial.suggest_int if self.whole else trial.suggest_float
        return suggest(name, self.low, self.high, log=self.log)

    def for_ray(self) -> Any:
        """Return the same range for Ray Tune, whose largest whole number is the one before `high`."""
        from ray import tune

        if self.whole:
            return (tune.lograndint if self.log else tune.randint)(self.low, self.high + 1)
        return (tune.loguniform if self.log else tune.uniform)(self.low, self.high)

    def decode(self, value: float) -> float:
        """Return the number itself."""
        return value

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', whole' if self.whole else ''}{', log' if self.log else ''}"


@dataclass(frozen=True)
class Choices:
    """Values without an order; storages keep lists and dictionaries as JSON text.

    Args:
        choices: two or more values of JSON.
    """

    choices: tuple[Any, ...]

    @property
    def edges(self) -> list[Any]:
        """Return the values to check before a search: all."""
        return list(self.choices)

    def suggest(self, trial: "optuna.Trial", name: str) -> Any:
        """Return a value that Optuna chooses."""
        return self.decode(trial.suggest_categorical(name, list(self._by_label())))

    def for_ray(self) -> Any:
        """Return the same choices for Ray Tune."""
        from ray import tune

        return tune.choice(list(self._by_label()))

    def decode(self, label: Any) -> Any:
        """Return the value that a storage keeps as this text."""
        return self._by_label()[label]

    def _by_label(self) -> dict[Any, Any]:
        return {json.dumps(value) if isinstance(value, list | dict) else value: value for value in self.choices}

    def __str__(self) -> str:
        return "one of " + ", ".join(map(str, self.choices))


Space = dict[str, Range | Choices]


def read_space(file: Path) -> Space:
    """Return a search space; numbers may be written `1e-5`, which YAML 1.1 reads as text.

    Raises:
        UserError: for a file that is not a search space, with the line.
    """
    if not os.path.isfile(file):
        raise UserError(f"expected a search space in {file}, found no file; write it, or give another --space.")
    lines = read_yaml(file, loader=_Loader)
    if not lines:
        raise UserError(f"expected {file} to contain lines such as {EXAMPLE}, found none; add some.")
    return {str(key): _dimension(line, f"{key} in {file}") for key, line in lines.items()}


class _Loader(yaml.SafeLoader):
    """`SafeLoader` with the decimal numbers of YAML 1.2 and an error for keys that occur twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _dimension(line: Any, where: str) -> Range | Choices:
    if not isinstance(line, dict):
        raise UserError(f"expected {where} to be written as {EXAMPLE}, found {line!r}; correct it.")
    for key in line:
        if key not in ("low", "high", "log", "choices"):
            near = did_you_mean(str(key), ("low", "high", "log", "choices"))
            raise UserError(f"{where} has an unknown key {key!r}{near}; correct or remove it.")
    if {"low", "high"} <= line.keys() and "choices" not in line:
        return _range(line["low"], line["high"], line.get("log", False), where)
    if line.keys() != {"choices"}:
        raise UserError(
            f"expected {where} to have either low and high or choices, found {', '.join(map(str, line))}; correct it."
        )
    values = line["choices"]
    if not isinstance(values, list) or len(values) < 2:
        raise UserError(f"expected {where} to list two choices at least, found {values!r}; add some or remove it.")
    if None in values:
        raise UserError(f"{where} has the choice null, which stands for the default; write the value.")
    if twice := [value for value in values if values.count(value) > 1]:
        raise UserError(f"expected {where} to list different choices, found {twice[0]!r} twice; remove one.")
    return Choices(tuple(values))


def _range(low: Any, high: Any, log: Any, where: str) -> Range:
    for end in (low, high):
        if isinstance(end, int) and abs(end) > LARGEST:  # Optuna would not end on larger ones
            raise UserError(
                f"expected whole numbers up to 2**53 as low and high of {where}, found {end}; write them as 1e+20."
            )
        if isinstance(end, bool) or not (isinstance(end, int | float) and math.isfinite(end)):
            raise UserError(f"expected numbers as low and high of {where}, found {end!r}; list others as choices.")
    if not isinstance(log, bool):
        raise UserError(f"expected true or false as log of {where}, found {log!r}; correct it.")
    if not low < high:
        raise UserError(f"expected low below high of {where}, found {low:g} and {high:g}; swap or change them.")
    if log and low <= 0:
        raise UserError(f"expected low above 0 of {where}, which is log, found {low:g}; raise it, or remove log.")
    dimension = Range(low, high, log)
    if dimension.whole and high == low + 1:
        raise UserError(
            f"{where} goes from {low} to {high}, and whole ends give whole numbers, of which none lies between; write "
            f"{low}.0 and {high}.0 for all numbers between, or choices."
        )
    return dimension
