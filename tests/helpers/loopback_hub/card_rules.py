"""Published rules of the Hub for the metadata of a card.

The fields of https://github.com/huggingface/hub-docs (`modelcard.md`, `datasetcard.md`, `docs/hub/model-cards.md`,
`docs/hub/repositories-licenses.md`), the tasks of huggingface.js (`packages/tasks/src/pipelines.ts`), and sentences
that users of `/api/validate-yaml` have quoted. Unknown fields pass, as they do there. One rule may be stricter than
the Hub's: `license: other` needs a `license_name`, which the documentation asks for.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

FRONT_MATTER = re.compile(r"^\s*---[\r\n]+(.*?)[\r\n]+---(?:\r\n|\n|$)", re.DOTALL)
LICENSES = (
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0",
    "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0",
    "etalab-2.0", "eupl-1.1", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0",
    "isc", "lppl-1.3c", "ms-pl", "mpl-2.0", "odc-by", "odbl", "openrail++", "osl-3.0", "postgresql", "ofl-1.1",
    "ncsa", "unlicense", "zlib", "pddl", "lgpl-lr", "deepfloyd-if-license", "llama2", "gemma", "unknown", "other",
)  # fmt: skip
TASKS = (
    "text-classification", "token-classification", "table-question-answering", "question-answering",
    "zero-shot-classification", "translation", "summarization", "feature-extraction", "text-generation",
    "text2text-generation", "fill-mask", "sentence-similarity", "text-to-speech", "text-to-audio",
    "automatic-speech-recognition", "audio-to-audio", "audio-classification", "audio-text-to-text",
    "voice-activity-detection", "depth-estimation", "image-classification", "object-detection",
    "image-segmentation", "text-to-image", "image-to-text", "image-to-image", "image-to-video",
    "unconditional-image-generation", "video-classification", "reinforcement-learning", "robotics",
    "tabular-classification", "tabular-regression", "tabular-to-text", "table-to-text", "multiple-choice",
    "text-ranking", "text-retrieval", "time-series-forecasting", "text-to-video", "image-text-to-text",
    "visual-question-answering", "document-question-answering", "zero-shot-image-classification", "graph-ml",
    "mask-generation", "zero-shot-object-detection", "text-to-3d", "image-to-3d", "image-feature-extraction",
    "video-text-to-text", "keypoint-detection", "visual-document-retrieval", "any-to-any", "biology", "other",
)  # fmt: skip
SIZES = (
    "n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B", "10B<n<100B",
    "100B<n<1T", "n>1T",
)  # fmt: skip

# where in the metadata, value -> sentences on what is wrong
Rule = Callable[[str, Any], list[str]]


def anything(where: str, value: Any) -> list[str]:
    return []


def string(where: str, value: Any) -> list[str]:
    return [] if isinstance(value, str) else [f'"{where}" must be a string']


def boolean(where: str, value: Any) -> list[str]:
    return [] if isinstance(value, bool) else [f'"{where}" must be a boolean']


def one_of(options: Iterable[str]) -> Rule:
    def check(where: str, value: Any) -> list[str]:
        return [] if value in options else [f'"{where}" must be one of [{", ".join(options)}]']

    return check


def matching(pattern: str, otherwise: str) -> Rule:
    def check(where: str, value: Any) -> list[str]:
        if string(where, value) or re.fullmatch(pattern, value):
            return string(where, value)
        return [f'"{where}" with value "{value}" is not valid. {otherwise}']

    return check


def repo_id(otherwise: str) -> Rule:
    def check(where: str, value: Any) -> list[str]:
        try:
            validate_repo_id(value)
        except HFValidationError:
            return string(where, value) or [f'"{where}" with value "{value}" is not valid. {otherwise}']
        return []

    return check


def array(rule: Rule) -> Rule:
    def check(where: str, value: Any) -> list[str]:
        if not isinstance(value, list):
            return [f'"{where}" must be an array']
        return [error for place, item in enumerate(value) for error in rule(f"{where}[{place}]", item)]

    return check


def single_or_array(rule: Rule) -> Rule:
    return lambda where, value: (array(rule) if isinstance(value, list) else rule)(where, value)


def record(required: Mapping[str, Rule], optional: Mapping[str, Rule]) -> Rule:
    def check(where: str, value: Any) -> list[str]:
        if not isinstance(value, dict):
            return [f'"{where or "value"}" must be of type object']
        prefix = f"{where}." if where else ""
        rules = {**required, **optional}
        errors = [f'"{prefix}{name}" is required' for name in required if name not in value]
        return errors + [error for name in value if name in rules for error in rules[name](prefix + name, value[name])]

    return check


METRIC = record({"type": string, "value": anything}, {"name": string, "config": string, "verified": boolean})
DATASET = record({"type": string, "name": string}, {"config": string, "split": string, "revision": string})
RESULT = record(
    {"task": record({"type": string}, {"name": string}), "dataset": DATASET, "metrics": array(METRIC)},
    {"source": record({"url": matching("https?://.+", "It must be a valid uri.")}, {"name": string})},
)
DATASET_IDS = repo_id("If possible, use a dataset id from https://hf.co/datasets.")
COMMON = {
    "license": single_or_array(one_of(LICENSES)),
    "license_name": string,
    "license_link": matching(r"LICENSE(\.md)?|https?://.+", "It must be LICENSE, LICENSE.md or a valid uri."),
    "language": single_or_array(
        matching("[a-z]{2,3}|code|multilingual", "It must be an ISO 639-1, 639-2 or 639-3 code.")
    ),
    "tags": array(string),
    "pretty_name": string,
}
MODEL = record(
    {},
    COMMON
    | {
        "datasets": single_or_array(DATASET_IDS),
        "base_model": single_or_array(repo_id("Use a model id from https://hf.co/models.")),
        "metrics": array(string),
        "library_name": string,
        "pipeline_tag": string,
        "widget": array(anything),
        "model-index": array(record({"name": string, "results": array(RESULT)}, {})),
    },
)
DATA = record(
    {},
    COMMON
    | {name: array(string) for name in ("annotations_creators", "language_creators", "source_datasets")}
    | {name: array(string) for name in ("task_categories", "task_ids")}
    | {"size_categories": array(one_of(SIZES)), "configs": array(record({"config_name": string}, {}))},
)
# https://huggingface.co/docs/hub/spaces-config-reference
COLOURS = one_of(("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"))
SPACE = record(
    {"sdk": one_of(("gradio", "docker", "static"))},
    COMMON
    | {name: string for name in ("title", "emoji", "sdk_version", "python_version", "app_file", "short_description")}
    | {"colorFrom": COLOURS, "colorTo": COLOURS, "models": array(repo_id("Models used in the Space."))},
)
RULES = {"model": MODEL, "dataset": DATA, "space": SPACE}


def check_card(card: str, kind: str) -> tuple[list[str], list[str]]:
    """Errors, for which the Hub refuses a card of a model, a dataset or a space, and warnings."""
    found = FRONT_MATTER.match(card)
    if found is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        metadata = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [f"Invalid YAML in README.md: {error}"], []
    errors = _errors(metadata, RULES[kind])
    return errors, [] if errors else _unlisted(metadata)


def _errors(metadata: Any, rule: Rule) -> list[str]:
    if not isinstance(metadata, dict | list):
        return ["The YAML metadata of your README.md is invalid."]
    errors = rule("", metadata)
    if not errors and metadata.get("license") == "other" and "license_name" not in metadata:
        errors.append('"license_name" is required')
    if any(set(".$") & set(key) for key in _keys(metadata)):
        errors.append('You can\'t have a key with a "." or "$" character in your YAML metadata')
    return errors


def _keys(value: Any) -> list[str]:
    """All keys of nested metadata."""
    if isinstance(value, list):
        return [key for item in value for key in _keys(item)]
    if isinstance(value, dict):
        return [str(key) for key in value] + _keys(list(value.values()))
    return []


def _unlisted(metadata: dict[str, Any]) -> list[str]:
    """A warning for each task that the Hub does not know."""
    tasks = [("pipeline tag", metadata["pipeline_tag"])] if "pipeline_tag" in metadata else []
    tasks += [("task_categories", task) for task in metadata.get("task_categories", ())]
    listed = ", ".join(TASKS)
    return [
        f'The {field} "{task}" is not in the official list: {listed}' for field, task in tasks if task not in TASKS
    ]
