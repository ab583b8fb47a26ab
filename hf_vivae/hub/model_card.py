"""Model cards: template, facts of the run, and scores."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from ..corpus import EMOTIONS
from ..evaluation.bootstrap import Bounds
from ..evaluation.runs import Predictions, read_part
from ..evaluation.scores import GroupScore, SystemScores
from ..evaluation.systems import Run
from ..files import read_json, read_yaml
from ..models import MODELS, PROBE, short_name
from ..reporting.tables import SCORE_NAMES, plain
from ..splits.protocols import PROTOCOLS
from ..validation import UserError
from .licenses import choose_license
from .metadata import (
    GENERATED,
    METRICS,
    OF_VIVAE,
    base_model,
    base_on_hub,
    card_stem,
    card_title,
    check_metadata,
    dataset_name,
    make_metadata,
)
from .publication import Publication

if TYPE_CHECKING:
    from matplotlib.figure import Figure


IN_RECIPES = ("train.py", "reproduce.py", "ablate.py")  # the scripts that train
OF_THIS_PACKAGE, NEEDS_TIMM = "vivae_", "vivae_timm_vit"  # of config.json's model_type
SOLVED = ("logistic-regression", "probe")  # without epochs
# a folder at the start of an argument, of its value, of a word, or of a text within JSON
FOLDERS = re.compile(r'((?:^|[=\s])(?:probe:|encoder:|file:)?|")((?:~|\.\.|[A-Za-z]:)?[\\/][^"]*)')
# what an address may say of whoever asks: name and password before the host, keys behind the path
ADDRESS = re.compile(r"(\w+://)(?:[^/@\s]*@)?([^?\s]*)(?:\?\S*)?")
PATTERN = {"--speaker_pattern", "--speaker-pattern"}  # its value may look like a folder and is none


def checkpoint_facts(folder: Path) -> dict[str, Any]:
    """What is heard, how large the network is, and what loading it asks for.

    Args:
        folder: with `config.json`, `preprocessor_config.json` and weights.
    """
    config, extractor = (read_json(folder / f"{name}.json") for name in ("config", "preprocessor_config"))
    code = "auto_map" in config or "auto_map" in extractor
    files = sorted(folder.glob("*.safetensors"))
    return {
        "config": config,
        "extractor": extractor,
        "sampling_rate": extractor["sampling_rate"],
        **_length(extractor),
        "parameters": f"{sum(map(_count, files)):,}",
        "megabytes": f"{sum(file.stat().st_size for file in files) / 1e6:,.1f}",
        "code": code,
        "ours": not code or config["model_type"].startswith(OF_THIS_PACKAGE),
        "timm": config["model_type"] == NEEDS_TIMM,
    }


def _count(file: Path) -> int:
    """Numbers in a file of weights, which is not read but for its header."""
    from safetensors import safe_open

    with safe_open(file, framework="np") as weights:
        names = weights.keys()
        return sum(prod(weights.get_slice(name).get_shape()) for name in names)


def _length(extractor: dict[str, Any]) -> dict[str, Any]:
    """How many seconds of a clip the model hears, and whether whoever calls `pipeline` has to cut it so."""
    samples = extractor.get("num_samples", extractor.get("n_samples"))  # the latter is Whisper's
    seconds = samples and samples / extractor["sampling_rate"]
    if samples is None and "max_length" in extractor:
        seconds = extractor["max_length"] / 100  # AST's, in frames of 10 ms
    return {
        "seconds": seconds and f"{seconds:.3g}",
        "exact_seconds": seconds and f"{seconds:.9g}",
        "middle": extractor.get("pad_clip") is False,
        "masked": extractor.get("return_attention_mask") or extractor.get("cut_to_clips"),
        "cut_by_caller": "num_samples" in extractor and "auto_map" not in extractor,
    }


def training_facts(record: dict[str, Any]) -> dict[str, Any]:
    """On what, from what, how, with what and how long a model was trained, for the template.

    Args:
        record: the run's `run.json`.
    """
    run, corpus, environment = record["run"], record["corpus"], record["environment"]
    base, spent = base_model(run), record.get("seconds")  # a training under way has not spent its time yet
    on_hub = base_on_hub(record) is not None
    solved = card_stem(run["model"]) in SOLVED
    return {
        "name": short_name(run["model"]),
        "title": card_title(record),
        "reported": run["model"] in MODELS,
        "corpus": corpus["name"],
        "of_vivae": corpus["name"] in OF_VIVAE,
        "generated": corpus["name"] in GENERATED,
        "mark": f" ({corpus['name']})" if corpus["name"] in GENERATED else "",
        "clips": corpus["clips"],
        "partial": bool(corpus["problems"]),
        "task": run["task"],
        "protocol_name": run["protocol"],
        "select_on": run["select_on"],
        "made_for": MODELS[run["model"]].extractor.get("sampling_rate") if run["model"] in MODELS else None,
        "fold_clips": {part: len(files) for part, files in record["fold"].items()},
        "base": base and (base if on_hub else short_name(base)),
        "base_on_hub": on_hub,
        "usual_base": run["model"] in MODELS and base == MODELS[run["model"]].pretrained,
        "probe": run["model"].startswith(PROBE),
        "trimmed": run.get("trim_db"),  # which runs of earlier commits have not
        "adapted": run.get("lora_rank"),
        "recipe": run["recipe"],
        "switches": run["as_coded"],
        **_command_facts(environment["command"]),
        "solved": solved,
        "steps": None if solved else _steps(record),
        "environment": environment,
        "commit": _commit(environment["git_commit"]),
        "time": None if spent is None else duration(spent),
        "memory": None if spent is None else f"{record['peak_memory_mb'] * 2**20 / 1e9:.1f}",
    }


def _steps(record: dict[str, Any]) -> str:
    training = record["training"]
    clips = training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] * record["processes"]
    steps, epochs = training["max_steps"], training["num_train_epochs"]
    length = counted(steps, "step") if steps > 0 else counted(epochs, "epoch")
    rate, seed = training["learning_rate"], training["seed"]
    return f"{length}, {counted(clips, 'clip')} a step, learning rate {rate:g}, seed {seed}"


def counted(number: float, noun: str) -> str:
    """A number with its noun, which is plural but for 1."""
    return f"{number:.10g} {noun}{'' if number == 1 else 's'}"


def _command_facts(command: Sequence[str]) -> dict[str, Any]:
    return {
        "command": shown_command(command),
        "of_recipes": command[0] in IN_RECIPES,
        "shortened": _without_folders(command) != list(command),
    }


def shown_command(command: Sequence[str]) -> str:
    """A command as it can be repeated, and without the folders that lead to its files.

    Args:
        command: name of the script and its arguments.
    """
    script, *arguments = _without_folders(command)
    python = ["python"] if script.endswith(".py") else []
    place = f"recipes/{script}" if script in IN_RECIPES else script
    return shlex.join([*python, place, *arguments])


def _without_folders(command: Sequence[str]) -> list[str]:
    return [
        part if {before, part.partition("=")[0]} & PATTERN else FOLDERS.sub(_last_part, ADDRESS.sub(r"\1\2", part))
        for before, part in pairwise(("", *command))
    ]


def _last_part(found: re.Match) -> str:
    return found[1] + re.split(r"[\\/]", found[2].rstrip("\\/"))[-1]


def _commit(commit: str | None) -> str:
    if commit is None:
        return "as a package, whose commit is not known"
    number, changes, _ = commit.partition("+")
    return f"at commit `{number[:12]}`" + (" with uncommitted changes" if changes else "")


def duration(seconds: float) -> str:
    """A time in the unit that suits its length, from seconds."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


MOST_SHOWN = 30  # speakers in a table or a figure
MOST_NAMED = 12  # speakers in a sentence
FEWEST_CLIPS = 10  # of the median speaker, for whose accuracy fewer say nothing
AUC = "macro_auc"  # the one score that is no share of clips


@dataclass(frozen=True)
class Sibling:
    """Another model of the same study.

    Args:
        repo: its Hub id.
        publication: its checkpoint and scores.
    """

    repo: str
    publication: Publication


def score_facts(publication: Publication, scores: SystemScores) -> dict[str, Any]:
    """Tables and sentences on what a system scores, for the template."""
    run, system = publication.record["run"], scores.system
    return {
        "protocol": PROTOCOLS[run["protocol"]],
        "scores": _score_rows(scores, len(publication.labels)),
        "habits": system.caveats,
        "groups": {kind: _group_rows(found) for kind, found in shown_groups(scores).items()},
        "many_speakers": _quartiles(scores.groups["speaker"]),
        "absent": any(group.absent for found in shown_groups(scores).values() for group in found),
        "heard": _heard_again(system.runs[0]),
        "tested": scores.clips,
        "models": len(system.folds),
        "folds": system.covered,
        "seeds": len(system.runs),
        "ece": f"{100 * scores.calibration.scores['ece']:.1f}",
        "weights": _weights(publication.checkpoint, scores, PROTOCOLS[run["protocol"]].speaker_disjoint),
        "all_time": duration(sum(fold.seconds for fold in system.folds)),
    }


def shown_groups(scores: SystemScores) -> dict[str, list[GroupScore]]:
    """Speakers and intensities that a table and a figure have room for; without those that are unknown.

    Speakers of a folder have numbers in place of their names, since these may be people's own.
    """
    found = {kind: scores.groups[kind] for kind in ("speaker", "intensity")}
    if _of_folder(scores):
        found["speaker"] = [replace(one, name=f"speaker {n}") for n, one in enumerate(found["speaker"], start=1)]
    return {kind: groups for kind, groups in found.items() if 0 < len(groups) <= MOST_SHOWN}


def _of_folder(scores: SystemScores) -> bool:
    return scores.system.folds[0].clips.corpus == "folder"


def _score_rows(scores: SystemScores, labels: int) -> list[dict[str, str]]:
    chance = {"uar": 1 / labels, "accuracy": 1 / labels, "macro_f1": None, AUC: 0.5}
    star = " *" if scores.system.caveats else ""
    return [
        {
            "name": SCORE_NAMES[key] + star,
            "value": _text(key, estimate.value),
            "speakers": _range(key, estimate.speakers),
            "clips": _range(key, estimate.clips),
            "chance": _text(key, chance[key]),
            "majority": _text(key, scores.majority[key]),
        }
        for key, estimate in ((key, scores.estimates[key]) for key in METRICS)
    ]


def _group_rows(groups: Sequence[GroupScore]) -> list[dict[str, Any]]:
    return [
        {
            "name": group.name,
            "clips": group.clips,
            "accuracy": _text("accuracy", group.accuracy),
            "bounds": _range("accuracy", (group.low, group.high)),
            "uar": _text("uar", group.uar),
        }
        for group in groups
    ]


def _quartiles(speakers: Sequence[GroupScore]) -> dict[str, Any] | None:
    """How the accuracies of more speakers than a table has room for are spread."""
    if len(speakers) <= MOST_SHOWN or np.median([group.clips for group in speakers]) < FEWEST_CLIPS:
        return None
    low, middle, high = np.quantile([group.accuracy for group in speakers], (0.25, 0.5, 0.75))
    return {"number": len(speakers), "low": f"{low:.1%}", "middle": f"{middle:.1%}", "high": f"{high:.1%}"}


def _heard_again(run: Run) -> dict[str, int] | None:
    """How many speakers are tested, and of them how many are heard in training too; None where one is unknown."""
    train, test = (
        set(zip(part.folds.tolist(), part.speakers.tolist(), strict=True))
        for part in (run.read("train"), run.read("test"))
    )
    if "" in {speaker for _, speaker in train | test}:
        return None
    again, tested = (len({speaker for _, speaker in pairs}) for pairs in (train & test, test))
    return {"again": again, "tested": tested}


def _text(key: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if key == AUC else f"{value:.1%}"


def _range(key: str, bounds: Bounds | None) -> str:
    return "-" if bounds is None else f"{_text(key, bounds[0])} to {_text(key, bounds[1])}"


def _weights(checkpoint: Path, scores: SystemScores, disjoint: bool) -> dict[str, Any]:
    """Which of the scored models is published, what trained and chose it, and what it scores by itself.

    Speakers are named where each is on one side only, but not those of a folder, after whom folds may be named too.
    """
    run = scores.system.runs[0]
    fold = run.folds[0].fold
    parts = {part: read_part([checkpoint], part) for part in ("train", "validation", "test")}
    chosen = read_json(checkpoint / "results.json")["selection"]
    epoch = chosen and chosen.get("epoch")
    disjoint = disjoint and not _of_folder(scores)
    return {
        "fold": "1" if _of_folder(scores) else fold,
        "seed": run.seed,
        "uar": _text("uar", scores.by_fold[run.seed][fold]["uar"]),
        "chosen": chosen and {"refit": False, **chosen, "metric": _metric_name(chosen["metric"])},
        "when": None if epoch is None else _when(checkpoint, epoch),
        **{part: found and _clips(found, MOST_NAMED if disjoint else 0) for part, found in parts.items()},
    }


def _when(checkpoint: Path, epoch: float) -> str:
    """The epoch that was selected, or the step where that is within one."""
    if epoch.is_integer():
        return f"Epoch {epoch:g}"
    history = checkpoint / "history.jsonl"  # which evaluation and cards do without where it was not copied along
    entries = map(json.loads, history.read_text(encoding="utf-8").splitlines() if history.is_file() else ())
    return next((f"Step {entry['step']}" for entry in entries if entry.get("epoch") == epoch), f"Epoch {epoch:.3g}")


def _metric_name(metric: str) -> str:
    name = metric.removeprefix("eval_")
    return SCORE_NAMES.get(name, name)


def _clips(part: Predictions, most_named: int) -> str:
    """How many clips, and by whom where that is known."""
    speakers, clips = sorted(set(part.speakers.tolist())), counted(len(part), "clip")
    if "" in speakers:
        return clips
    return f"{clips} by {', '.join(speakers) if len(speakers) <= most_named else counted(len(speakers), 'speaker')}"


def study_rows(this: Sibling, others: Sequence[Sibling]) -> list[dict[str, Any]]:
    """The models of a study, the best UAR of each corpus, task and protocol first; nothing where there is no other."""
    siblings = {other.repo: other for other in others} | {this.repo: this}
    if len(siblings) == 1:
        return []
    return [_study_row(one, one is this) for one in sorted(siblings.values(), key=_place)]


def _place(one: Sibling) -> tuple:
    record, scores = one.publication.record, one.publication.scores
    value = scores.estimates["uar"].value if scores else 0.0
    return record["corpus"]["name"], record["run"]["task"], record["run"]["protocol"], -value, one.repo


def _study_row(one: Sibling, this: bool) -> dict[str, Any]:
    record, scores = one.publication.record, one.publication.scores
    estimates = scores.estimates if scores else {}
    star = " *" if scores and scores.system.caveats else ""
    return {
        "repo": one.repo,
        "name": short_name(record["run"]["model"]),
        "this": this,
        "clips": dataset_name(record["corpus"]),
        "task": record["run"]["task"],
        "protocol": record["run"]["protocol"],
        "uar": f"{_text('uar', estimates['uar'].value)}{star}" if scores else "-",
        "bounds": _range("uar", estimates["uar"].speakers) if scores else "-",
        "accuracy": f"{_text('accuracy', estimates['accuracy'].value)}{star}" if scores else "-",
        "habits": scores.system.caveats if scores else [],
    }


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
    source = read_yaml(file)
    _check_source(source, file)
    environment = _environment(cards)
    try:
        return {key: text and environment.from_string(text).render(facts).strip() for key, text in source.items()}
    except TemplateError as error:
        raise UserError(f"expected fields of the checkpoint in {file}, found that {error}; correct it.") from error


def _check_source(source: dict[str, Any], file: Path) -> None:
    for keys, said in ((source.keys() - set(SOURCE_KEYS), "also"), (set(SOURCE_KEYS) - source.keys(), "no")):
        if keys:
            found = ", ".join(sorted(map(str, keys)))
            raise UserError(f"expected the keys {', '.join(SOURCE_KEYS)} in {file}, found {said} {found}; correct it.")
    for key, text in source.items():
        if not (isinstance(text, str) and text.strip()) and not (text is None and key in MAY_BE_NULL):
            raise UserError(f"expected a text as {key} in {file}, found {text!r}; write one.")


def card_pictures(publication: Publication) -> dict[str, "Figure"]:
    """The figures that a card shows by their file names: accuracy by group, and confusions; none without scores."""
    from ..evaluation.figures import confusion_figure, groups_figure

    scores, record = publication.scores, publication.record
    if scores is None:
        return {}
    star = " *" if scores.system.caveats else ""
    title = card_title(record, star)
    groups = {f"by {kind}": found for kind, found in shown_groups(scores).items()}
    majority = scores.majority["accuracy"]
    confusion = confusion_figure(scores.confusion.tolist(), publication.labels, title, majority, scores.clips)
    figures = {CONFUSION: confusion}
    if groups:
        figures[BY_GROUP] = groups_figure(groups, title, 1 / len(publication.labels), majority)
    return figures


def open_templates(cards: Path) -> Environment:
    """The templates in the folder `model_cards/`; lines that hold nothing but a statement leave no line."""
    # of Markdown, in which nothing is escaped as in HTML
    return Environment(  # nosec B701
        loader=FileSystemLoader(cards), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
