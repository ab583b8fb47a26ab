"""Model cards: a template and a source for each model, joined with what a run folder says and scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, TemplateError

from .card_facts import checkpoint_facts, counted, training_facts
from .card_metadata import base_model, card_stem, card_title, check_metadata, make_metadata
from .card_scores import Sibling, score_facts, shown_groups, study_rows
from .corpus import EMOTIONS
from .evaluation.tables import plain
from .licenses import choose_license
from .publication import Publication
from .templates import open_templates
from .validation import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Sibling", "card_pictures", "render_card"]

TEMPLATE = "template.md"
# what a source says: the model itself, what it is for, where it fails, what to mind with it, and what the weights that
# it usually starts from have learned; the last two may be null
SOURCE_KEYS = ("what", "intended_use", "limits", "ethics", "base_model")
MAY_BE_NULL = ("ethics", "base_model")
BY_GROUP, CONFUSION = "accuracy-by-group.png", "confusion.png"


def render_card(
    cards: Path, repo: str, publication: Publication, license: str | None = None, study: Sequence[Sibling] = ()
) -> str:
    """The README of a model's repository on the Hub.

    Args:
        cards: folder with `template.md` and a source for each model.
        repo: Hub id of the model.
        publication: its checkpoint, settings and scores; without scores, the card says that it is in training.
        license: identifier of the Hub's list, where it is not that of the corpus.
        study: other models of the same study, for a table of all.

    Raises:
        ValueError: for damaged sources, and licences that do not fit.
    """
    record, scores = publication.record, publication.scores
    corpus, base = record["corpus"]["name"], base_model(record["run"])
    license = choose_license(corpus, base, license)
    facts = {
        **checkpoint_facts(publication.checkpoint),
        **training_facts(record),
        "labels": publication.labels,
        "emotions": publication.labels == EMOTIONS,
    }
    context = {
        **facts,
        "repo": repo,
        "license": license,
        "source": _read_source(cards, card_stem(record["run"]["model"]), facts),
        "scored": score_facts(publication, scores) if scores else None,
        "study": study_rows(Sibling(repo, publication), study),
    }
    body = _environment(cards).get_template(TEMPLATE).render(context)
    text = f"---\n{make_metadata(publication, license).to_yaml()}\n---\n\n{body.strip()}\n"
    check_metadata(text)
    return text


def _environment(cards: Path) -> Environment:
    environment = open_templates(cards)
    environment.filters |= {"plain": plain, "counted": counted}
    return environment


def _read_source(cards: Path, stem: str, facts: dict[str, Any]) -> dict[str, str | None]:
    """What a source says; its texts may ask for `config`, `extractor` and the other facts of a checkpoint.

    Raises:
        ValueError: for a source that is missing, no YAML, or has other keys or fields than these.
    """
    file = cards / f"{stem}.yaml"
    if not file.is_file():
        raise UserError(f"expected the source of the card in {file}, found none; write one.")
    try:
        source = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"expected YAML in {file}, found other ({' '.join(str(error).split())}); mend it.") from error
    _check_source(source, file)
    environment = _environment(cards)
    try:
        return {key: text and environment.from_string(text).render(facts).strip() for key, text in source.items()}
    except TemplateError as error:
        raise UserError(f"expected fields of the checkpoint in {file}, found that {error}; correct it.") from error


def _check_source(source: Any, file: Path) -> None:
    if not isinstance(source, dict):
        raise UserError(f"expected `key: text` lines in {file}, found {type(source).__name__}; mend it.")
    for keys, said in ((source.keys() - set(SOURCE_KEYS), "also"), (set(SOURCE_KEYS) - source.keys(), "no")):
        if keys:
            found = ", ".join(sorted(map(str, keys)))
            raise UserError(f"expected the keys {', '.join(SOURCE_KEYS)} in {file}, found {said} {found}; correct it.")
    for key, text in source.items():
        if not (isinstance(text, str) and text.strip()) and not (text is None and key in MAY_BE_NULL):
            raise UserError(f"expected a text as {key} in {file}, found {text!r}; write one.")


def card_pictures(publication: Publication) -> dict[str, "Figure"]:
    """The figures that a card shows by their file names: accuracy by group, and confusions; none without scores."""
    from .evaluation.evaluation_figures import groups_figure
    from .evaluation.score_figures import confusion_figure

    scores, record = publication.scores, publication.record
    if scores is None:
        return {}
    star = " *" if scores.system.habits else ""
    title = card_title(record, star)
    groups = {f"by {kind}": found for kind, found in shown_groups(scores).items()}
    majority = scores.majority["accuracy"]
    confusion = confusion_figure(scores.confusion.tolist(), publication.labels, title, majority, scores.clips)
    figures = {CONFUSION: confusion}
    if groups:
        figures[BY_GROUP] = groups_figure(groups, title, 1 / len(publication.labels), majority)
    return figures
