"""The metadata of a model card: what the Hub filters, links and lists, and the rules by which it refuses some.

The name VIVAE stands there only for models that were trained and tested on it.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..checkpoints.resolve import starting_point
from ..corpus.schema import GENERATED
from ..evaluation.bootstrap import LEVEL, Bounds, Estimate
from ..evaluation.scores import SystemScores
from ..evaluation.systems import System
from ..models import short_name
from ..models.backbones import BACKBONES, recipe_stems
from ..reporting.tables import SCORE_NAMES
from ..validation import UserError
from .licenses import check_license
from .publication import Publication

PIPELINE = "audio-classification"
TAGS = (PIPELINE, "non-verbal-vocalization", "vocal-bursts")
OF_VIVAE = ("vivae", "vivae-core")
CLIPS = {  # what cards call the clips of a corpus
    "vivae": "VIVAE",
    "vivae-core": "VIVAE's core set",
    "synthetic": "synthetic clips",
    "noise": "white noise",
    "folder": "other clips",
}
# score of ours -> its identifier among the Hub's metrics, and what makes the metric ours
METRICS: dict[str, tuple[str, dict[str, str]]] = {
    "uar": ("recall", {"average": "macro"}),
    "accuracy": ("accuracy", {}),
    "macro_f1": ("f1", {"average": "macro"}),
    "macro_auc": ("roc_auc", {"average": "macro", "multi_class": "ovr"}),
}
DECIMALS = 4


def make_metadata(publication: Publication, license: str) -> ModelCardData:
    """What stands above a card; scores only where there are some, and none that is undefined.

    Args:
        publication: whose card it is.
        license: an identifier of the Hub's list.
    """
    run, corpus = publication.record["run"], publication.record["corpus"]["name"]
    results = [] if publication.scores is None else _results(publication, publication.scores)
    return ModelCardData(
        license=license,
        library_name="transformers",
        pipeline_tag=PIPELINE,
        tags=[*TAGS, *_tags(corpus, run["task"])],
        datasets=["vivae"] if corpus in OF_VIVAE else None,
        base_model=base_on_hub(publication.record),
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=_index_name(run["model"], corpus) if results else None,
        eval_results=results or None,
    )


def _tags(corpus: str, task: str) -> Sequence[str]:
    emotion = () if task == "intensity" else ("emotion-recognition",)
    if corpus in OF_VIVAE:
        return (*emotion, "vivae", "hf_vivae")
    # not the package's own name either: a search for VIVAE shall not find what was never trained on it
    return (*emotion, corpus) if corpus in GENERATED else ()


def _index_name(model: str, corpus: str) -> str:
    name = short_name(model)
    return name if corpus in OF_VIVAE or "vivae" not in name.lower() else card_stem(model)


def card_title(record: dict[str, Any], star: str = "") -> str:
    """The model, the clips and, unless it is emotion, the task.

    Args:
        record: the run's `run.json`.
        star: behind the model, where its scores are marked.
    """
    run = record["run"]
    task = "" if run["task"] == "emotion" else f": {run['task']}"
    return f"{short_name(run['model'])}{star} on {CLIPS[record['corpus']['name']]}{task}"


def card_stem(model: str) -> str:
    """Return the stem of a model's source in `model_cards/`: its name, or `probe`, `encoder` or `other`."""
    return next(stem for stem in recipe_stems(model) if stem not in BACKBONES)


def base_model(run: dict[str, Any]) -> str | None:
    """Hub id or folder of the weights that a run started from; None for random ones.

    Args:
        run: the entry of that name in `run.json`.
    """
    return None if run["from_scratch"] else starting_point(run["model"], run["model_name_or_path"])


def base_on_hub(record: dict[str, Any]) -> str | None:
    """Hub id of the weights that a run started from; None for random ones and for those of a folder.

    Args:
        record: the run's `run.json`; one that does not say whether it was a folder is of an earlier commit.
    """
    base = base_model(record["run"])
    return base if is_hub_id(base) and not record.get("from_folder") else None


def is_hub_id(id_or_folder: str | None) -> bool:
    """Whether it reads like `owner/name` and is no folder here."""
    if id_or_folder is None or id_or_folder.count("/") != 1 or Path(id_or_folder).exists():
        return False
    try:
        validate_repo_id(id_or_folder)
    except HFValidationError:
        return False
    return True


def dataset_name(corpus: dict[str, Any]) -> str:
    """What a card calls the clips, and how many there are where some of VIVAE's are missing.

    Args:
        corpus: the entry of that name in `run.json`.
    """
    name = CLIPS[corpus["name"]]
    return f"{name}, {corpus['clips']} clips of it" if corpus["name"] in OF_VIVAE and corpus["problems"] else name


def _results(publication: Publication, scores: SystemScores) -> list[EvalResult]:
    corpus, run = publication.record["corpus"], publication.record["run"]
    split = {"task": run["task"], "protocol": run["protocol"], "folds": scores.system.covered}
    return [
        EvalResult(
            task_type=PIPELINE,
            task_name="Audio Classification",
            dataset_type="vivae" if corpus["name"] in OF_VIVAE else corpus["name"],
            dataset_name=dataset_name(corpus),
            dataset_config=run["task"],
            dataset_split="test",
            dataset_args={**split, "seeds": len(scores.system.runs), "clips": scores.clips},
            metric_type=kind,
            metric_name=SCORE_NAMES[key],
            metric_value=round(scores.estimates[key].value, DECIMALS),
            metric_args={**arguments, "protocol": run["protocol"], **_extent(scores.estimates[key], scores.system)},
        )
        for key, (kind, arguments) in METRICS.items()
        if scores.estimates[key].value is not None
    ]


def _extent(estimate: Estimate, system: System) -> dict[str, Any]:
    """How far a score can be trusted: its intervals, and what it owes to habits of publications."""
    bounds = {"over_speakers": estimate.speakers, "over_clips": estimate.clips}
    intervals = {name: _interval(found) for name, found in bounds.items() if found is not None}
    return {**intervals, **({"marked": system.caveats} if system.caveats else {})}


def _interval(bounds: Bounds) -> dict[str, float]:
    low, high = (round(bound, DECIMALS) for bound in bounds)
    return {"level": LEVEL, "low": low, "high": high}


def check_metadata(text: str) -> None:
    """Refuse a model card that the Hub would refuse, or list wrongly.

    Its rules are those of huggingface.co/docs/hub/model-cards and of modelcard.md in huggingface/hub-docs; they are
    checked here since `ModelCard.validate` asks the Hub itself.

    Raises:
        ValueError: for missing or damaged metadata, licences and tasks that the Hub does not know, names that are no
            Hub ids, and results without a number.
    """
    data = _parse(text)
    if not isinstance(data.license, str):
        raise UserError(f"expected one license above the card, found {data.license!r}; give one, such as unknown.")
    if check_license(data.license) == "other" and not data.get("license_name"):
        raise UserError("expected license_name beside the license other, found none; give the licence a name.")
    if data.pipeline_tag != PIPELINE:
        raise UserError(f"expected the pipeline_tag {PIPELINE}, found {data.pipeline_tag!r}; correct it.")
    for key in ("tags", "datasets", "metrics"):
        if not all(isinstance(entry, str) for entry in data.get(key, [])):
            raise UserError(f"expected texts as {key}, found {data[key]!r}; correct them.")
    bases = [data.base_model] if isinstance(data.base_model, str) else data.base_model or []
    for base in bases:
        try:
            validate_repo_id(base)
        except HFValidationError as error:
            raise UserError(f"expected a Hub id as base_model, found {base!r}; leave it out.") from error
    for result in data.eval_results or []:
        _check_result(result)


def _parse(text: str) -> ModelCardData:
    try:
        data = ModelCard(text).data
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"expected YAML as the Hub's modelcard.md has it above the card, found other ({reason}); mend it."
        ) from error
    if not data.to_dict():
        raise UserError("expected YAML between two lines of --- above the card, found none; add license and tags.")
    return data


def _check_result(result: EvalResult) -> None:
    names = ("task_type", "dataset_type", "dataset_name", "metric_type")
    unnamed = [name for name in names if not (isinstance(getattr(result, name), str) and getattr(result, name))]
    if unnamed:
        raise UserError(f"expected a text as {unnamed[0]} of each result in model-index, found none; add it.")
    value = result.metric_value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(
            f"expected a number as the value of {result.metric_type} in model-index, found {value!r}; leave out a "
            "score that is undefined."
        )
