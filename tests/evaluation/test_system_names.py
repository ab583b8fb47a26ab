"""Names of systems: short where they can be, and apart where they must be."""

import json

from hf_vivae.evaluation.systems import name_settings
from hf_vivae.run_folder import UNSELECTED

SELECTING = {"select_on": "validation", "do_eval": True, "eval_strategy": "epoch", "load_best_model_at_end": True}


def settings(**values) -> tuple[tuple[str, str], ...]:
    shared = {"model": "mlp", "recipe": "tuned", "as_coded": [], "model_config": {}}
    return tuple(sorted((name, json.dumps(value)) for name, value in (shared | values).items()))


def test_what_follows_from_select_on_is_in_no_name():
    members = [settings(select_on="none", **UNSELECTED), settings(**SELECTING)]
    assert list(name_settings(members).values()) == ["mlp tuned select_on=none", "mlp tuned select_on=validation"]
    members.append(settings(**SELECTING | {"eval_strategy": "steps"}))  # where clips select, a setting of its own
    assert list(name_settings(members).values()) == [
        "mlp tuned select_on=none",
        "mlp tuned eval_strategy=epoch select_on=validation",
        "mlp tuned eval_strategy=steps select_on=validation",
    ]
