"""What all processes of a study must have in common, so that its trials answer one question."""

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..corpus_arguments import CorpusArguments
from ..runs import BEFORE, VOLATILE
from ..validation import UserError
from .trials import Trials

if TYPE_CHECKING:
    import optuna

SETTINGS = "settings "  # before the names under which a study keeps them
MOST_NAMED = 5  # differences that a refusal names, those first from which others follow
FIRST = ("model", "recipe", "data", "protocol", "fold", "task")


def question(trials: Trials) -> dict[str, Any]:
    """Everything but where the processes run and find the clips, and what the trials choose anyway."""
    run, args = trials.candidates.run, trials.candidates.args
    places = {*VOLATILE, *(f.name for f in fields(CorpusArguments))}
    settings = {name: value for name, value in {**asdict(run), **args.to_dict()}.items() if name not in places}
    for key in trials.space:
        name, _, field = key.partition(".")
        chosen = settings.pop(name)
        if field:
            settings[name] = {own: value for own, value in (chosen or {}).items() if own != field}
    settings |= {"data": run.data, "clips": trials.prepared.digest, "fold": trials.fold.name}
    settings |= {f"space of {key}": str(dimension) for key, dimension in trials.space.items()}
    return json.loads(json.dumps(settings))  # as a storage gives them back


def check_same_question(study: "optuna.Study", settings: dict[str, Any]) -> None:
    """Refuse a study whose trials answer another question.

    Raises:
        ValueError: naming what differs.
    """
    remembered = _remembered(study)
    if study.trials and not remembered:
        raise UserError(f"study {study.study_name!r} was not made by recipes/search.py; give another --study.")
    for before in remembered:
        if differing := _differences(BEFORE | before, BEFORE | settings):
            more = f" and {len(differing) - MOST_NAMED} more" if len(differing) > MOST_NAMED else ""
            raise UserError(
                f"study {study.study_name!r} is another search, which differs in {', '.join(differing[:MOST_NAMED])}"
                f"{more}; repeat its settings to continue it, or give another --study."
            )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    names = sorted(before.keys() | now.keys(), key=lambda name: (name not in FIRST, name))
    return [
        f"{name} (was {before.get(name)!r}, is {now.get(name)!r})"
        for name in names
        if before.get(name) != now.get(name)
    ]


def remember(study: "optuna.Study", settings: dict[str, Any]) -> None:
    """Keep the settings in a study that has none yet; compare them with those that it has got since it was opened.

    A storage has no lock for that. Of processes that begin at once, each writes its own before it reads those of all,
    so that where they differ, one at least refuses.

    Raises:
        ValueError: as `check_same_question`.
    """
    own = f"{SETTINGS}{uuid4().hex}"
    begins = not _remembered(study)
    if begins:
        study.set_user_attr(own, settings)
    try:
        check_same_question(study, settings)
    except UserError:
        if begins:
            study.set_user_attr(own, None)
        raise


def _remembered(study: "optuna.Study") -> list[dict[str, Any]]:
    return [settings for name, settings in study.user_attrs.items() if name.startswith(SETTINGS) and settings]
