"""Names of systems: model and recipe, and what else differs where several share these."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from ..habits import UNSELECTED
from ..models import short_name
from .fold_folders import Settings

BARE = re.compile(
    r"(?!(?:null|true|false|default)$)[A-Za-z_./][\w./:+-]*"
)  # text that cannot be taken for another value


def name_settings(all_settings: Iterable[Settings]) -> dict[Settings, str]:
    """A name of its own for each of different settings, such as `mlp paper learning_rate=0.0001`."""
    alike: dict[str, list[Settings]] = defaultdict(list)
    for settings in all_settings:
        alike[_model_and_recipe(settings)].append(settings)
    return {settings: name for base, members in alike.items() for settings, name in _tell_apart(base, members).items()}


def _model_and_recipe(settings: Settings) -> str:
    values = {name: json.loads(value) for name, value in settings if name in ("model", "recipe", "as_coded")}
    model, recipe, switches = short_name(values["model"]), values["recipe"], values["as_coded"]
    if recipe == "none":  # a checkpoint of the Hub or of a folder
        return model
    # the recipe as_coded has all switches on, any other those that were given
    return f"{model} {'+'.join([recipe, *switches]) if recipe == 'paper' else recipe}"


def _tell_apart(base: str, members: list[Settings]) -> dict[Settings, str]:
    flat = {settings: _flat(settings) for settings in members}
    keys = sorted({key for values in flat.values() for key in values})
    differing = [key for key in keys if _differs(key, list(flat.values()))]
    return {
        settings: " ".join([base, *(f"{key}={values[key]}" for key in differing if key in values)])
        for settings, values in flat.items()
    }


def _differs(key: str, members: list[dict[str, str]]) -> bool:
    # where no clips select, these are left out: they only repeat what select_on says
    among = [values for values in members if key in values or key not in UNSELECTED]
    return len({values.get(key) for values in among}) > 1


def _flat(settings: Settings) -> dict[str, str]:
    """Settings with the fields of `model_config` among them; words without quotation marks."""
    values = {name: json.loads(value) for name, value in settings}
    if values.get("select_on") == "none":
        values = {name: value for name, value in values.items() if name not in UNSELECTED}
    values |= values.pop("model_config") or {}
    return {name: _shown(value) for name, value in values.items()}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and BARE.fullmatch(value) else json.dumps(value)
