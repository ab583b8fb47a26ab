"""Tables 1 to 4 of the paper: sizes of the models, counted on the networks, and training settings of their runs."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForAudioClassification, PreTrainedConfig, PreTrainedModel

from ..models import MODELS, build_config, build_feature_extractor
from ..reporting.tables import Cell, Table
from .report2022 import ARCHITECTURES, LABEL
from .runs import StudyRun

BASELINES = "waveform baselines"
SCRATCH = "vision transformers on the mel spectrogram, trained from scratch"
VIT_BASE = "ViT-Base, pretrained on images"
WAV2VEC2 = "wav2vec2, pretrained on speech"
LEGEND = (
    ' "recipe paper": counted on the network that this package builds after the paper\'s description. "as run": '
    "counted on the networks of the paper runs of this study, or from their records; of the sizes, only the "
    "parameters and those that differ from the recipe. The paper's own figures are those of the networks that it "
    'describes, unless marked as printed; its Tables 1 to 4 have the same models in another grouping. "-": the model '
    "has no such property, the paper does not give it, or the model was not run."
)
Properties = Mapping[str, Cell]


def architecture_tables(runs: Sequence[StudyRun]) -> list[Table]:
    """Return Tables 1 to 4: each model of `MODELS` as built by its recipe, as run in the study, and as in the paper.

    Args:
        runs: of a study, of which the `paper` runs are described; of several seeds the first.

    Raises:
        KeyError: a model has a type that `DESCRIPTIONS` lacks.
    """
    paper = {run.model: run for run in reversed(runs) if run.group == "paper"}
    tables: dict[str, list[str]] = {}
    for name, spec in MODELS.items():
        tables.setdefault(DESCRIPTIONS[spec.config_class.model_type][0], []).append(name)
    return [
        _table(number, title, models, {model: paper[model] for model in models if model in paper})
        for number, (title, models) in enumerate(tables.items(), 1)
    ]


def _table(number: int, title: str, models: Sequence[str], runs: Mapping[str, StudyRun]) -> Table:
    recipe = {model: describe(build_config(model), build_feature_extractor(model).num_samples) for model in models}
    built = {model: describe_folder(run.folder) for model, run in runs.items()}
    trained = {model: describe_training(run.record) for model, run in runs.items() if run.epochs()}
    reported = {model: ARCHITECTURES[model] for model in models if model in ARCHITECTURES}
    as_run = {"parameters"} | {
        key for model in runs for key, size in recipe[model].items() if built[model][key] != size
    }
    rows = []
    for key in _keys(recipe, reported):
        for origin, sizes in (("recipe paper", recipe), ("as run", built), (LABEL, reported)):
            if key in _keys(sizes) and (sizes is not built or key in as_run):
                rows.append((key, origin, *_cells(sizes, key, models)))
    rows += [(key, "as run", *_cells(trained, key, models)) for key in _keys(trained)]
    caption = f"Table {number}: {title}.{LEGEND if number == 1 else ' Words as in Table 1.'}"
    return Table(f"table{number}", caption, ("", "from", *models), tuple(rows), (None, None, *[","] * len(models)))


def _keys(*sources: Mapping[str, Properties]) -> list[str]:
    return list(dict.fromkeys(key for source in sources for properties in source.values() for key in properties))


def _cells(source: Mapping[str, Properties], key: str, models: Sequence[str]) -> list[Cell]:
    return [source.get(model, {}).get(key) for model in models]


def describe_folder(folder: Path) -> dict[str, Cell]:
    """Return the sizes of the model of a run folder, counted on a network built from its `config.json`."""
    extractor = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    return describe(AutoConfig.from_pretrained(folder), extractor["num_samples"])


def describe(config: PreTrainedConfig, num_samples: int) -> dict[str, Cell]:
    """Return the sizes of a model, counted on the network where possible, else read from the configuration.

    Args:
        config: of a model of `MODELS`.
        num_samples: length of its waveform, which the configuration of wav2vec2 does not contain.
    """
    with torch.device("meta"):  # no memory for weights
        model = AutoModelForAudioClassification.from_config(config)
    _, describe_type = DESCRIPTIONS[config.model_type]
    return {**describe_type(model, num_samples), "parameters": model.num_parameters()}


def _describe_logistic_regression(model: PreTrainedModel, num_samples: int) -> dict[str, Cell]:
    return {
        "input": f"waveform, {model.config.num_samples:,} samples",
        "solver's iterations at most": model.config.max_iterations,
        "inverse strength of L2": model.config.inverse_regularization,
    }


def _describe_mlp(model: PreTrainedModel, num_samples: int) -> dict[str, Cell]:
    sizes = [layer.linear.out_features for layer in model.layers]
    return {
        "input": f"waveform, {model.config.num_samples:,} samples",
        "hidden layers": "-".join(map(str, sizes)),
        "last layer": f"{model.classifier.in_features}-{model.classifier.out_features}",
        "dropout": model.config.hidden_dropout,
    }


def _describe_spectrogram_vit(model: PreTrainedModel, num_samples: int) -> dict[str, Cell]:
    config, tokens = model.config, model.embeddings.positions.shape[1]
    if config.attention == "softmax":
        attention = {"dropout of attention": config.attention_dropout}
    else:
        attention = {"attention": config.attention, "random features": config.num_random_features}
    return {
        "input": f"mel, {config.num_mel_bins} x {config.num_frames}",
        "patch": " x ".join(map(str, config.patch_size)),
        "patches": tokens - 1,
        "tokens": tokens,
        "width": model.classifier.in_features,
        "layers": len(model.layers),
        "heads": config.num_attention_heads,
        "width of a head": config.head_dim,
        "width of the MLP": model.layers[0].mlp[0].out_features,
        "dropout": config.hidden_dropout,
        "dropout of tokens": config.embedding_dropout,
        **attention,
    }


def _describe_timm_vit(model: PreTrainedModel, num_samples: int) -> dict[str, Cell]:
    network = model.backbone
    block = network.blocks[0]
    return {
        "input": f"mel, {model.config.num_mel_bins} x {model.config.num_frames}",
        "image": " x ".join(map(str, network.patch_embed.img_size)),
        "patch": " x ".join(map(str, network.patch_embed.patch_size)),
        "patches": network.patch_embed.num_patches,
        "tokens": network.pos_embed.shape[1],
        "width": network.embed_dim,
        "layers": len(network.blocks),
        "heads": block.attn.num_heads,
        "width of a head": block.attn.head_dim,
        "width of the MLP": block.mlp.fc1.out_features,
        "dropout": block.mlp.drop1.p,
    }


def _describe_wav2vec2(model: PreTrainedModel, num_samples: int) -> dict[str, Cell]:
    config = model.config
    return {
        "input": f"waveform, {num_samples:,} samples",
        "convolutions": len(model.wav2vec2.feature_extractor.conv_layers),
        "tokens": model.wav2vec2.feature_extractor(torch.empty(1, num_samples, device="meta")).shape[-1],
        "width": config.hidden_size,
        "layers": len(model.wav2vec2.encoder.layers),
        "heads": config.num_attention_heads,
        "width of the MLP": config.intermediate_size,
        "dropout": config.hidden_dropout,
        "dropout of attention": config.attention_dropout,
        "dropout of layers": config.layerdrop,
    }


# model type -> title of the table with its models, and their sizes
DESCRIPTIONS: dict[str, tuple[str, Callable[[PreTrainedModel, int], dict[str, Cell]]]] = {
    "vivae_logistic_regression": (BASELINES, _describe_logistic_regression),
    "vivae_mlp": (BASELINES, _describe_mlp),
    "vivae_spectrogram_vit": (SCRATCH, _describe_spectrogram_vit),
    "vivae_timm_vit": (VIT_BASE, _describe_timm_vit),
    "wav2vec2": (WAV2VEC2, _describe_wav2vec2),
}


def describe_training(record: Mapping[str, Any]) -> dict[str, Cell]:
    """Return optimiser, learning rate, batch and epochs of a run.

    Args:
        record: content of its `run.json`.
    """
    args = record["training"]
    epochs = args["num_train_epochs"]
    course = args["lr_scheduler_type"]
    for unit in ("steps", "epochs"):
        if every := args[f"lr_decay_{unit}"]:
            course = f"times {args['lr_decay_factor']} every {every} {unit}"
    return {
        "optimiser": "Adam with L2" if args["adam_l2"] else args["optim"],
        "strength of L2 or weight decay": args["weight_decay"],
        "learning rate": args["learning_rate"],
        "its course": course,
        "clips of an optimiser step": args["per_device_train_batch_size"]
        * args["gradient_accumulation_steps"]
        * record["processes"],
        "epochs": int(epochs) if epochs == int(epochs) else epochs,
    }
