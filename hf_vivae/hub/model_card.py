"""Model cards: README.md of a model's repository from a template, the record of its run and its scores."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError
from safetensors import safe_open

from ..checkpoints.open_set import BACKGROUND_FIELD, OPEN_SET_FIELD
from ..corpus import EMOTIONS
from ..corpus.schema import LabelMap
from ..evaluation.bootstrap import Bounds
from ..evaluation.runs import read_part
from ..evaluation.scores import GroupScore, SystemScores
from ..evaluation.systems import Run
from ..files import read_json, read_yaml
from ..models import MODELS, PROBE, short_name
from ..reporting.tables import SCORE_NAMES, escape_markdown
from ..splits.protocols import PROTOCOLS
from ..validation import UserError
from .licenses import choose_license
from .metadata import (
    CLIPS,
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

TEMPLATE = "template.md"
# texts of a source: description of the model, intended use, limits, ethical considerations, and the training data of
# the weights that it usually starts from; the last two may be null
SOURCE_KEYS = ("what", "intended_use", "limits", "ethics", "base_model")
MAY_BE_NULL = ("ethics", "base_model")
BY_GROUP, CONFUSION = "accuracy-by-group.png", "confusion.png"
MOST_SHOWN = 30  # speakers in a table or a figure
MOST_NAMED = 12  # speakers in a sentence
FEWEST_CLIPS = 10  # of the median speaker, below which the accuracy of single speakers is too uncertain
AUC = "macro_auc"  # the only score that is not a share of clips

IN_RECIPES = ("train.py", "reproduce.py", "ablate.py", "curve.py")  # the scripts that train
OF_THIS_PACKAGE, NEEDS_TIMM, NEEDS_OPENSMILE = "vivae_", "vivae_timm_vit", "vivae_functionals"  # values of model_type
SOLVED = ("logistic-regression", "probe", "classic")  # without epochs
# a folder at the start of an argument, of its value, of a word, or of a text within JSON
FOLDERS = re.compile(r'((?:^|[=\s])(?:probe:|encoder:|file:)?|")((?:~|\.\.|[A-Za-z]:)?[\\/][^"]*)')
# parts of an address that identify its user: name and password before the host, keys after the path
ADDRESS = re.compile(r"(\w+://)(?:[^/@\s]*@)?([^?\s]*)(?:\?\S*)?")
PATTERN = {"--speaker_pattern", "--speaker-pattern"}  # its value may look like a folder and is none


def render_card(
    cards: Path,
    repo: str,
    publication: Publication,
    license: str | None = None,
    study: Mapping[str, Publication] | None = None,
) -> str:
    """Return README.md of a model's repository on the Hub.

    Args:
        cards: folder with `template.md` and a source for each model.
        repo: Hub id of the model.
        publication: checkpoint, settings and scores; without scores, the card states that the model is in training.
        license: identifier of the Hub's list, where it is not that of the corpus.
        study: other models of the same study by Hub id, for a table of all.

    Raises:
        UserError: for damaged sources, and licences that do not fit.
    """
    record, scores = publication.record, publication.scores
    corpus = record["corpus"]
    license = choose_license(corpus["name"], base_model(record["run"]), license, corpus.get("license"))
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
        "study": study_rows(repo, {**(study or {}), repo: publication}),
    }
    body = open_templates(cards).get_template(TEMPLATE).render(context)
    text = f"---\n{make_metadata(publication, license).to_yaml()}\n---\n\n{body.strip()}\n"
    check_metadata(text)
    return text


def open_templates(cards: Path) -> Environment:
    """Return the templates of the folder `model_cards/`; a line with only a statement is left out of the text."""
    # of Markdown, so nothing is escaped for HTML
    environment = Environment(  # nosec B701
        loader=FileSystemLoader(cards), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"plain": escape_markdown, "counted": counted}
    return environment


def _read_source(cards: Path, stem: str, facts: dict[str, Any]) -> dict[str, str | None]:
    """Return the texts of a source, which may use `config`, `extractor` and the other facts of a checkpoint.

    Raises:
        UserError: for a source that is missing, not YAML, or has other keys or fields than these.
    """
    file = cards / f"{stem}.yaml"
    if not file.is_file():
        raise UserError(f"expected the source of the card in {file}, found none; write one.")
    source = read_yaml(file)
    for keys, word in ((source.keys() - set(SOURCE_KEYS), "also"), (set(SOURCE_KEYS) - source.keys(), "no")):
        if keys:
            names = ", ".join(sorted(map(str, keys)))
            raise UserError(f"expected the keys {', '.join(SOURCE_KEYS)} in {file}, found {word} {names}; correct it.")
    for key, text in source.items():
        if not (isinstance(text, str) and text.strip()) and not (text is None and key in MAY_BE_NULL):
            raise UserError(f"expected a text as {key} in {file}, found {text!r}; write one.")
    templates = open_templates(cards)
    try:
        return {key: text and templates.from_string(text).render(facts).strip() for key, text in source.items()}
    except TemplateError as error:
        raise UserError(f"expected fields of the checkpoint in {file}, found that {error}; correct it.") from error


def card_pictures(publication: Publication) -> dict[str, "Figure"]:
    """Return the figures of a card by file name: accuracy by group, and confusions; none without scores."""
    from ..evaluation.figures import confusion_figure, groups_figure

    scores = publication.scores
    if scores is None:
        return {}
    title = card_title(publication.record, _star(scores))
    majority = scores.majority["accuracy"]
    confusion = confusion_figure(scores.confusion.tolist(), publication.labels, title, majority, scores.clips)
    figures = {CONFUSION: confusion}
    if groups := {f"by {kind}": members for kind, members in shown_groups(scores).items()}:
        figures[BY_GROUP] = groups_figure(groups, title, 1 / len(publication.labels), majority)
    return figures


def checkpoint_facts(folder: Path) -> dict[str, Any]:
    """Return input length, size and requirements of a checkpoint, for the template.

    Args:
        folder: folder with `config.json`, `preprocessor_config.json` and weights.
    """
    config, extractor = (read_json(folder / f"{name}.json") for name in ("config", "preprocessor_config"))
    files, parameters = sorted(folder.glob("*.safetensors")), 0
    for file in files:
        with safe_open(file, framework="np") as weights:  # reads the header only
            names = weights.keys()
            parameters += sum(prod(weights.get_slice(name).get_shape()) for name in names)
    samples = extractor.get("num_samples", extractor.get("n_samples"))  # the latter is Whisper's
    seconds = samples and samples / extractor["sampling_rate"]
    if samples is None and "max_length" in extractor:
        seconds = extractor["max_length"] / 100  # AST's, in frames of 10 ms
    code = "auto_map" in config or "auto_map" in extractor
    return {
        "config": config,
        "background": config.get(BACKGROUND_FIELD) or (),
        "open_set": config.get(OPEN_SET_FIELD),
        "extractor": extractor,
        "sampling_rate": extractor["sampling_rate"],
        "seconds": seconds and f"{seconds:.3g}",
        "exact_seconds": seconds and f"{seconds:.9g}",
        "middle": extractor.get("pad_clip") is False,
        "masked": extractor.get("return_attention_mask") or extractor.get("cut_to_clips"),
        "cut_by_caller": "num_samples" in extractor and "auto_map" not in extractor,
        "parameters": f"{parameters:,}",
        "megabytes": f"{sum(file.stat().st_size for file in files) / 1e6:,.1f}",
        "code": code,
        "ours": not code or config["model_type"].startswith(OF_THIS_PACKAGE),
        "timm": config["model_type"] == NEEDS_TIMM,
        "opensmile": config["model_type"] == NEEDS_OPENSMILE,
    }


def training_facts(record: dict[str, Any]) -> dict[str, Any]:
    """Return clips, initial weights, settings, software and duration of a training, for the template.

    Args:
        record: the run's `run.json`.
    """
    run, corpus, training, environment = (record[key] for key in ("run", "corpus", "training", "environment"))
    base, on_hub = base_model(run), base_on_hub(record) is not None
    usual = MODELS.get(run["model"])
    seconds = record.get("seconds")  # absent during training
    commit, changes, _ = (environment["git_commit"] or "").partition("+")
    commit = f"at commit `{commit[:12]}`{' with uncommitted changes' if changes else ''}" if commit else None
    command = environment["command"]
    steps = None
    if not (solved := card_stem(run["model"]) in SOLVED):
        clips = training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] * record["processes"]
        most, epochs = training["max_steps"], training["num_train_epochs"]
        length = counted(most, "step") if most > 0 else counted(epochs, "epoch")
        rate, seed = training["learning_rate"], training["seed"]
        steps = f"{length}, {counted(clips, 'clip')} a step, learning rate {rate:g}, seed {seed}"
    return {
        "name": short_name(run["model"]),
        "title": card_title(record),
        "reported": usual is not None,
        "corpus": corpus["name"],
        "of_vivae": corpus["name"] in OF_VIVAE,
        "generated": corpus["name"] in GENERATED,
        "dataset": None if corpus["name"] in CLIPS else corpus["name"],
        "mark": f" ({corpus['name']})" if corpus["name"] in GENERATED else "",
        "clips": corpus["clips"],
        "label_map": LabelMap(**corpus["label_map"]).text if "label_map" in corpus else None,
        "partial": bool(corpus["problems"]),
        "task": run["task"],
        "protocol_name": run["protocol"],
        "select_on": run["select_on"],
        "made_for": usual and usual.extractor.get("sampling_rate"),
        "fold_clips": _count_clips(record),
        "base": base and (base if on_hub else short_name(base)),
        "base_on_hub": on_hub,
        "usual_base": usual is not None and base == usual.pretrained,
        "probe": run["model"].startswith(PROBE),
        "trimmed": run.get("trim_db"),  # absent from runs of earlier versions
        "adapted": run.get("lora_rank"),
        "recipe": run["recipe"],
        "deviations": run["as_coded"],
        "command": shown_command(command),
        "of_recipes": command[0] in IN_RECIPES,
        "shortened": _without_folders(command) != list(command),
        "solved": solved,
        "steps": steps,
        "environment": environment,
        "commit": commit or "as a package, whose commit is not known",
        "time": None if seconds is None else duration(seconds),
        "memory": None if seconds is None else f"{record['peak_memory_mb'] * 2**20 / 1e9:.1f}",
    }


def _count_clips(record: dict[str, Any]) -> dict[str, int]:
    """Return the number of clips of each part of a fold; with --streaming, those that train are not named."""
    counts = {part: len(files) for part, files in record["fold"].items()}
    streamed = record["corpus"]["clips"] - sum(counts.values()) if record["run"].get("streaming") else 0
    return counts | {"train": counts["train"] + streamed}


def counted(number: float, noun: str) -> str:
    """Return a number with its noun, which is plural except for 1."""
    return f"{number:.10g} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a duration as text, in seconds, minutes or hours by its length."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def shown_command(command: Sequence[str]) -> str:
    """Return a command that can be repeated, without the folders that lead to its files.

    Args:
        command: name of the script and its arguments.
    """
    script, *arguments = _without_folders(command)
    python = ["python"] if script.endswith(".py") else []
    path = f"recipes/{script}" if script in IN_RECIPES else script
    return shlex.join([*python, path, *arguments])


def _without_folders(command: Sequence[str]) -> list[str]:
    def last_part(match: re.Match) -> str:
        return match[1] + re.split(r"[\\/]", match[2].rstrip("\\/"))[-1]

    return [
        part if {before, part.partition("=")[0]} & PATTERN else FOLDERS.sub(last_part, ADDRESS.sub(r"\1\2", part))
        for before, part in pairwise(("", *command))
    ]


def score_facts(publication: Publication, scores: SystemScores) -> dict[str, Any]:
    """Return tables and sentences on the scores of a system, for the template."""
    run, system, num_labels = publication.record["run"], scores.system, len(publication.labels)
    protocol, groups = PROTOCOLS[run["protocol"]], shown_groups(scores)
    chance = {"uar": 1 / num_labels, "accuracy": 1 / num_labels, "macro_f1": None, AUC: 0.5}
    speakers, quartiles = scores.groups["speaker"], None
    if len(speakers) > MOST_SHOWN and np.median([group.clips for group in speakers]) >= FEWEST_CLIPS:
        low, middle, high = np.quantile([group.accuracy for group in speakers], (0.25, 0.5, 0.75))
        quartiles = {"number": len(speakers), "low": f"{low:.1%}", "middle": f"{middle:.1%}", "high": f"{high:.1%}"}
    return {
        "protocol": protocol,
        "scores": [
            {
                "name": SCORE_NAMES[key] + _star(scores),
                "value": _text(key, scores.estimates[key].value),
                "speakers": _range(key, scores.estimates[key].speakers),
                "clips": _range(key, scores.estimates[key].clips),
                "chance": _text(key, chance[key]),
                "majority": _text(key, scores.majority[key]),
            }
            for key in METRICS
        ],
        "caveats": system.caveats,
        "groups": {
            kind: [
                {
                    "name": group.name,
                    "clips": group.clips,
                    "accuracy": _text("accuracy", group.accuracy),
                    "bounds": _range("accuracy", (group.low, group.high)),
                    "uar": _text("uar", group.uar),
                }
                for group in members
            ]
            for kind, members in groups.items()
        },
        "many_speakers": quartiles,
        "absent": any(group.absent for members in groups.values() for group in members),
        "overlap": _count_overlap(system.runs[0]),
        "tested": scores.clips,
        "models": len(system.folds),
        "folds": system.covered,
        "seeds": len(system.runs),
        "ece": f"{100 * scores.calibration.scores['ece']:.1f}",
        "weights": _describe_weights(publication.checkpoint, scores, protocol.speaker_disjoint),
        "all_time": duration(sum(fold.seconds for fold in system.folds)),
    }


def shown_groups(scores: SystemScores) -> dict[str, list[GroupScore]]:
    """Return the speakers and intensities of a table and a figure, if they are known and at most `MOST_SHOWN`.

    Speakers of a folder or dataset have numbers in place of their names, since these may be names of people.
    """
    groups = {kind: scores.groups[kind] for kind in ("speaker", "intensity")}
    if _is_folder(scores):
        speakers = enumerate(groups["speaker"], start=1)
        groups["speaker"] = [replace(speaker, name=f"speaker {number}") for number, speaker in speakers]
    return {kind: members for kind, members in groups.items() if 0 < len(members) <= MOST_SHOWN}


def _is_folder(scores: SystemScores) -> bool:
    corpus = scores.system.folds[0].clips.corpus
    return corpus in ("folder", "segments") or corpus not in CLIPS


def _star(scores: SystemScores | None) -> str:
    return " *" if scores and scores.system.caveats else ""


def _text(key: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if key == AUC else f"{value:.1%}"


def _range(key: str, bounds: Bounds | None) -> str:
    return "-" if bounds is None else f"{_text(key, bounds[0])} to {_text(key, bounds[1])}"


def _count_overlap(run: Run) -> dict[str, int] | None:
    """Return the number of test speakers, and of those in training too; None if any is unknown."""
    if run.read("train") is None:  # of a run with --streaming
        return None
    train, test = (
        set(zip(part.folds.tolist(), part.speakers.tolist(), strict=True))
        for part in (run.read("train"), run.read("test"))
    )
    if "" in {speaker for _, speaker in train | test}:
        return None
    both, tested = (len({speaker for _, speaker in pairs}) for pairs in (train & test, test))
    return {"both": both, "tested": tested}


def _describe_weights(checkpoint: Path, scores: SystemScores, disjoint: bool) -> dict[str, Any]:
    """Return fold, seed, clips, selection and UAR of the published weights.

    Speakers are named where each is on one side only, but not those of a folder, whose names folds may have too.
    """
    run = scores.system.runs[0]
    fold = run.folds[0].fold
    most_named = MOST_NAMED if disjoint and not _is_folder(scores) else 0
    clips: dict[str, str | None] = {}
    for name in ("train", "validation", "test"):
        part = read_part([checkpoint], name)
        clips[name] = part and counted(len(part), "clip")
        speakers = sorted(set(part.speakers.tolist())) if part else [""]
        if "" not in speakers:
            names = ", ".join(speakers) if len(speakers) <= most_named else counted(len(speakers), "speaker")
            clips[name] += f" by {names}"
    if clips["train"] is None:  # of a run with --streaming
        clips["train"] = counted(_count_clips(read_json(checkpoint / "run.json"))["train"], "clip")
    selection = read_json(checkpoint / "results.json")["selection"]
    epoch = selection and selection.get("epoch")
    if selection:
        metric = selection["metric"].removeprefix("eval_")
        selection = {"refit": False, **selection, "metric": SCORE_NAMES.get(metric, metric)}
    return {
        "fold": "1" if _is_folder(scores) else fold,
        "seed": run.seed,
        "uar": _text("uar", scores.by_fold[run.seed][fold]["uar"]),
        "selection": selection,
        "when": None if epoch is None else _name_epoch(checkpoint, epoch),
        **clips,
    }


def _name_epoch(checkpoint: Path, epoch: float) -> str:
    """Return the selected epoch, or the selected step where that is within an epoch."""
    if epoch.is_integer():
        return f"Epoch {epoch:g}"
    history = checkpoint / "history.jsonl"  # which may be missing where a run folder was copied
    entries = map(json.loads, history.read_text(encoding="utf-8").splitlines() if history.is_file() else ())
    return next((f"Step {entry['step']}" for entry in entries if entry.get("epoch") == epoch), f"Epoch {epoch:.3g}")


def study_rows(this: str, study: Mapping[str, Publication]) -> list[dict[str, Any]]:
    """Return a row for each model of a study, best UAR of each corpus, task and protocol first; none for one model.

    Args:
        this: Hub id of the model of the card.
        study: all models by Hub id.
    """
    rows = {}
    for repo, publication in study.items():
        record, scores = publication.record, publication.scores
        corpus, run = record["corpus"], record["run"]
        uar, accuracy = (scores.estimates[key] if scores else None for key in ("uar", "accuracy"))
        order = (corpus["name"], run["task"], run["protocol"], -uar.value if uar else 0.0, repo)
        rows[order] = {
            "repo": repo,
            "name": short_name(run["model"]),
            "this": repo == this,
            "clips": dataset_name(corpus),
            "task": run["task"],
            "protocol": run["protocol"],
            "uar": _text("uar", uar and uar.value) + _star(scores),
            "bounds": _range("uar", uar and uar.speakers),
            "accuracy": _text("accuracy", accuracy and accuracy.value) + _star(scores),
            "caveats": scores.system.caveats if scores else [],
        }
    return [rows[order] for order in sorted(rows)] if len(rows) > 1 else []
