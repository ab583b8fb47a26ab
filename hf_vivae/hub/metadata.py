"""Metadata of model cards, by which the Hub filters, links and lists models, and a check of the Hub's rules.

Only models that were trained and tested on VIVAE have its name in their metadata.
"""

import math
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..checkpoints.resolve import starting_point
from ..corpus.schema import GENERATED, with_label_map
from ..evaluation.bootstrap import LEVEL
from ..evaluation.scores import SystemScores
from ..models import short_name
from ..models.backbones import BACKBONES, recipe_stems
from ..reporting.tables import SCORE_NAMES
from ..validation import UserError
from .licenses import check_license
from .publication import Publication

PIPELINE = "audio-classification"
TAGS = (PIPELINE, "non-verbal-vocalization", "vocal-bursts")
OF_VIVAE = ("vivae", "vivae-core")
CLIPS = {  # names of the corpora in cards
    "vivae": "VIVAE",
    "vivae-core": "VIVAE's core set",
    "emogator": "EmoGator",
    "synthetic": "synthetic clips",
    "noise": "white noise",
    "folder": "other clips",
    "segments": "segments of recordings",
}
# score -> its identifier among the Hub's metrics, and the arguments of the Hub's metric
METRICS: dict[str, tuple[str, dict[str, str]]] = {
    "uar": ("recall", {"average": "macro"}),
    "accuracy": ("accuracy", {}),
    "macro_f1": ("f1", {"average": "macro"}),
    "macro_auc": ("roc_auc", {"average": "macro", "multi_class": "ovr"}),
}
DECIMALS = 4


def make_metadata(publication: Publication, license: str) -> ModelCardData:
    """Return the metadata of a model card, with the scores that there are.

    Args:
        publication: the model.
        license: an identifier of the Hub's list.
    """
    run, corpus = publication.record["run"], publication.record["corpus"]["name"]
    tags = [*TAGS, *([] if run["task"] == "intensity" else ["emotion-recognition"])]
    name = short_name(run["model"])
    if corpus in OF_VIVAE:
        tags += ["vivae", "hf_vivae"]
    else:  # a search for VIVAE must not find models of other clips, not even by the package's or the encoder's name
        tags += [corpus] if corpus in (*GENERATED, "emogator") else []
        name = card_stem(run["model"]) if "vivae" in name.lower() else name
    results = [] if publication.scores is None else _make_results(publication, publication.scores)
    return ModelCardData(
        license=license,
        library_name="transformers",
        pipeline_tag=PIPELINE,
        tags=tags,
        datasets=["vivae"] if corpus in OF_VIVAE else [corpus] if is_hub_id(corpus) else None,
        base_model=base_on_hub(publication.record),
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=name if results else None,
        eval_results=results or None,
    )


def _make_results(publication: Publication, scores: SystemScores) -> list[EvalResult]:
    corpus, run = publication.record["corpus"], publication.record["run"]
    split = {"task": run["task"], "protocol": run["protocol"], "folds": scores.system.covered}
    caveats = {"marked": scores.system.caveats} if scores.system.caveats else {}
    results = []
    for key, (kind, arguments) in METRICS.items():
        estimate = scores.estimates[key]
        if estimate.value is None:  # undefined
            continue
        intervals = {
            over: {"level": LEVEL, "low": round(bounds[0], DECIMALS), "high": round(bounds[1], DECIMALS)}
            for over, bounds in (("over_speakers", estimate.speakers), ("over_clips", estimate.clips))
            if bounds is not None
        }
        results.append(
            EvalResult(
                task_type=PIPELINE,
                task_name="Audio Classification",
                dataset_type=_dataset_type(corpus["name"]),
                dataset_name=dataset_name(corpus),
                dataset_config=run["task"],
                dataset_split="test",
                dataset_args={**split, "seeds": len(scores.system.runs), "clips": scores.clips},
                metric_type=kind,
                metric_name=SCORE_NAMES[key],
                metric_value=round(estimate.value, DECIMALS),
                metric_args={**arguments, "protocol": run["protocol"], **intervals, **caveats},
            )
        )
    return results


def _dataset_type(corpus: str) -> str:
    """Return the Hub id of a corpus, or else the source of its clips."""
    if corpus in OF_VIVAE:
        return "vivae"
    return corpus if corpus in CLIPS or is_hub_id(corpus) else "folder"


def card_title(record: dict[str, Any], star: str = "") -> str:
    """Return the title of a card: the model, the clips and, unless it is emotion, the task.

    Args:
        record: the run's `run.json`.
        star: follows the model where its scores are marked.
    """
    run, corpus = record["run"], record["corpus"]["name"]
    task = "" if run["task"] == "emotion" else f": {run['task']}"
    return f"{short_name(run['model'])}{star} on {CLIPS.get(corpus, corpus)}{task}"


def card_stem(model: str) -> str:
    """Return the stem of a model's source in `model_cards/`: its name, or else `probe`, `encoder` or `other`."""
    return next(stem for stem in recipe_stems(model) if stem not in BACKBONES)


def base_model(run: dict[str, Any]) -> str | None:
    """Return the Hub id or folder of the weights that a run started from; None for random ones.

    Args:
        run: entry `run` of `run.json`.
    """
    return None if run["from_scratch"] else starting_point(run["model"], run["model_name_or_path"])


def base_on_hub(record: dict[str, Any]) -> str | None:
    """Return the Hub id of the weights that a run started from; None for random ones and for those of a folder.

    Args:
        record: the run's `run.json`; those of earlier versions lack `from_folder`.
    """
    base = base_model(record["run"])
    return base if is_hub_id(base) and not record.get("from_folder") else None


def is_hub_id(id_or_folder: str | None) -> bool:
    """Return whether a text is of the form `owner/name` and not an existing folder."""
    if id_or_folder is None or id_or_folder.count("/") != 1 or Path(id_or_folder).exists():
        return False
    try:
        validate_repo_id(id_or_folder)
    except HFValidationError:
        return False
    return True


def dataset_name(corpus: dict[str, Any]) -> str:
    """Return the name of a corpus in cards, with its label map, and the number of clips of an incomplete one.

    Args:
        corpus: entry `corpus` of `run.json`.
    """
    name = CLIPS.get(corpus["name"], corpus["name"])  # of a dataset, its own
    name = with_label_map(name, corpus.get("label_map", {}).get("name"))
    published = corpus["name"] in (*OF_VIVAE, "emogator")
    return f"{name}, {corpus['clips']} clips of it" if published and corpus["problems"] else name


def check_metadata(text: str) -> None:
    """Refuse a model card that the Hub would refuse, or list wrongly.

    The rules are those of huggingface.co/docs/hub/model-cards and of modelcard.md in huggingface/hub-docs; they are
    checked here since `ModelCard.validate` needs the Hub.

    Raises:
        UserError: for missing or damaged metadata, licences and tasks that the Hub does not know, names that are not
            Hub ids, and results without a number.
    """
    try:
        data = ModelCard(text).data
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"expected YAML as in the Hub's modelcard.md above the card, found other ({reason}); correct it."
        ) from error
    if not data.to_dict():
        raise UserError("expected YAML between two lines of --- above the card, found none; add license and tags.")
    if not isinstance(data.license, str):
        raise UserError(f"expected one license above the card, found {data.license!r}; give one, such as unknown.")
    if check_license(data.license) == "other" and not data.get("license_name"):
        raise UserError("expected license_name with the license other, found none; give the licence a name.")
    if data.pipeline_tag != PIPELINE:
        raise UserError(f"expected the pipeline_tag {PIPELINE}, found {data.pipeline_tag!r}; correct it.")
    for key in ("tags", "datasets", "metrics"):
        if not all(isinstance(entry, str) for entry in data.get(key, [])):
            raise UserError(f"expected texts as {key}, found {data[key]!r}; correct them.")
    for base in [data.base_model] if isinstance(data.base_model, str) else data.base_model or []:
        try:
            validate_repo_id(base)
        except HFValidationError as error:
            raise UserError(f"expected a Hub id as base_model, found {base!r}; leave it out.") from error
    for result in data.eval_results or []:
        for name in ("task_type", "dataset_type", "dataset_name", "metric_type"):
            if not (isinstance(getattr(result, name), str) and getattr(result, name)):
                raise UserError(f"expected a text as {name} of each result in model-index, found none; add it.")
        value = result.metric_value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(
                f"expected a number as the value of {result.metric_type} in model-index, found {value!r}; leave out a "
                "score that is undefined."
            )
