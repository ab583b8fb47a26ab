"""The differences between the report's text and its notebook, one YAML file each: `recipes/as_coded/<name>.yaml`.

A switch that is on changes the settings of recipe `paper` to what the notebook did. All off is `paper`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from .flags import did_you_mean
from .models import MODELS
from .validation import UserError


@dataclass(frozen=True)
class Switch:
    """One difference.

    Args:
        name: stem of its file.
        row: number of the difference.
        report: what the report says.
        notebook: what its notebook does.
        models: those of `MODELS` that it concerns.
        settings: what changes in their recipe.
        instead: settings of a run without it, for a habit that text and notebook share, so that `paper` has it too.
    """

    name: str
    row: int
    report: str
    notebook: str
    models: tuple[str, ...]
    settings: dict[str, Any]
    instead: dict[str, Any] = field(default_factory=dict)


def read_switches(recipes: Path) -> dict[str, Switch]:
    """All switches by name, in the order of their rows.

    Raises:
        ValueError: for a file with missing or unknown keys or models.
    """
    switches = [_read_switch(file) for file in sorted((recipes / "as_coded").glob("*.yaml"))]
    return {switch.name: switch for switch in sorted(switches, key=lambda switch: switch.row)}


def _read_switch(file: Path) -> Switch:
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    known = {field.name for field in fields(Switch)} - {"name"}
    keys = set(values) if isinstance(values, dict) else set()
    if not known - {"instead"} <= keys <= known or not set(values["models"]) <= MODELS.keys():
        raise UserError(
            f"expected {file} to hold {', '.join(sorted(known))} and names of models, found {sorted(keys)}; mend it."
        )
    return Switch(file.stem, **{**values, "models": tuple(values["models"])})


def choose_switches(switches: dict[str, Switch], names: Sequence[str], model: str) -> list[Switch]:
    """The switches of these names.

    Raises:
        ValueError: for an unknown name, with the nearest, and for a switch that does not concern the model.
    """
    for name in names:
        if name not in switches:
            hint = did_you_mean(name, switches)
            raise UserError(f"expected --as_coded out of {', '.join(switches)}, found {name!r}{hint}; correct it.")
        if model not in switches[name].models:
            raise UserError(
                f"the switch {name} concerns {', '.join(switches[name].models)}, found --model {model}; leave it out."
            )
    return [switches[name] for name in switches if name in names]


def turn_on(values: dict[str, Any], switches: Sequence[Switch]) -> dict[str, Any]:
    """A recipe's values with the settings of switches in place of its own; `model_config` field by field."""
    changed = dict(values)
    for switch in switches:
        config = {**(changed.get("model_config") or {}), **switch.settings.get("model_config", {})}
        changed |= {**switch.settings, **({"model_config": config} if config else {})}
    return {**changed, "as_coded": [switch.name for switch in switches]}
