"""What a model card says of a checkpoint's files and of its training, without the folders of the machine it was on."""

import re
import shlex
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from .card_metadata import GENERATED, OF_VIVAE, base_model, base_on_hub, card_stem, card_title
from .models import MODELS, PROBE, short_name
from .runs import read_json

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
