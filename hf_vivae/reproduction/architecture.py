"""Tables 1 to 4: the classifiers as they are built, every figure counted on the network or read from its run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForAudioClassification, PreTrainedConfig, PreTrainedModel

from ..models import build_config, build_feature_extractor
from ..reporting.tables import Cell, Table
from .report2022 import ARCHITECTURES, LABEL
from .runs import StudyRun

GROUPS = (
    ("waveform baselines", ("logistic-regression", "mlp")),
    (
        "vision transformers on the mel spectrogram, trained from scratch",
        ("vit-32-30", "vit-16-69", "vit-8-23", "vit-32-69"),
    ),
    ("ViT-Base, pretrained on images", ("vit-base",)),
    ("wav2vec2, pretrained on speech", ("wav2vec2",)),
)
LEGEND = (
    ' "recipe paper": counted on the network that this package builds to the report\'s description. "as run": on the '
    "networks of the paper runs of this study and from their records; of sizes, parameters and what differs from the "
    "recipe. The report's own figures are what its description comes to, unless marked as printed; its Tables 1 to 4 "
    'are of the same models, which we group as we see fit. "-": the model has no such thing, the report does not give '
    "it, or the model was not run."
)
Properties = Mapping[str, Cell]


def architecture_tables(runs: Sequence[StudyRun]) -> list[Table]:
    """Tables 1 to 4: each model as the report describes it, as this study ran it, and what the report gives.

    Args:
        runs: of a study; its `paper` runs say what was trained and how, of several seeds the first.
    """
    paper = {run.model: run for run in reversed(runs) if run.group == "paper"}
    return [
        _table(number, title, models, {model: paper[model] for model in models if model in paper})
        for number, (title, models) in enumerate(GROUPS, 1)
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
    """Sizes of the model of a run folder, counted on a network built from its `config.json`."""
    extractor = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    return describe(AutoConfig.from_pretrained(folder), extractor["num_samples"])


def describe(config: PreTrainedConfig, num_samples: int) -> dict[str, Cell]:
    """Sizes of a model, counted on the network where it has them and read from the configuration elsewhere.

    Args:
        config: of a model of `MODELS`.
        num_samples: length of its waveform; of interest for wav2vec2, whose configuration does not say it.
    """
    with torch.device("meta"):  # no memory for weights
        model = AutoModelForAudioClassification.from_config(config)
    properties = DESCRIPTIONS[config.model_type](model, config, num_samples)
    return {**properties, "parameters": model.num_parameters()}


def _describe_logistic_regression(
    model: PreTrainedModel, config: PreTrainedConfig, num_samples: int
) -> dict[str, Cell]:
    return {
        "input": f"waveform, {config.num_samples:,} samples",
        "solver's iterations at most": config.max_iterations,
        "inverse strength of L2": config.inverse_regularization,
    }


def _describe_mlp(model: PreTrainedModel, config: PreTrainedConfig, num_samples: int) -> dict[str, Cell]:
    sizes = [layer.linear.out_features for layer in model.layers]
    return {
        "input": f"waveform, {config.num_samples:,} samples",
        "hidden layers": "-".join(map(str, sizes)),
        "last layer": f"{model.classifier.in_features}-{model.classifier.out_features}",
        "dropout": config.hidden_dropout,
    }


def _describe_spectrogram_vit(model: PreTrainedModel, config: PreTrainedConfig, num_samples: int) -> dict[str, Cell]:
    tokens = model.embeddings.positions.shape[1]
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
        **_describe_attention(config),
    }


def _describe_attention(config: PreTrainedConfig) -> dict[str, Cell]:
    if config.attention == "softmax":
        return {"dropout of attention": config.attention_dropout}
    return {"attention": config.attention, "random features": config.num_random_features}


def _describe_timm_vit(model: PreTrainedModel, config: PreTrainedConfig, num_samples: int) -> dict[str, Cell]:
    network = model.backbone
    block = network.blocks[0]
    return {
        "input": f"mel, {config.num_mel_bins} x {config.num_frames}",
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


def _describe_wav2vec2(model: PreTrainedModel, config: PreTrainedConfig, num_samples: int) -> dict[str, Cell]:
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


DESCRIPTIONS = {
    "vivae_logistic_regression": _describe_logistic_regression,
    "vivae_mlp": _describe_mlp,
    "vivae_spectrogram_vit": _describe_spectrogram_vit,
    "vivae_timm_vit": _describe_timm_vit,
    "wav2vec2": _describe_wav2vec2,
}


def describe_training(record: Mapping[str, Any]) -> dict[str, Cell]:
    """Optimiser, learning rate, batch and epochs of a run.

    Args:
        record: content of its `run.json`.
    """
    args = record["training"]
    epochs = args["num_train_epochs"]
    return {
        "optimiser": "Adam with L2" if args["adam_l2"] else args["optim"],
        "strength of L2 or weight decay": args["weight_decay"],
        "learning rate": args["learning_rate"],
        "its course": _course(args),
        "clips of an optimiser step": args["per_device_train_batch_size"]
        * args["gradient_accumulation_steps"]
        * record["processes"],
        "epochs": int(epochs) if epochs == int(epochs) else epochs,
    }


def _course(args: Mapping[str, Any]) -> str:
    for unit in ("epochs", "steps"):
        if args[f"lr_decay_{unit}"]:
            return f"times {args['lr_decay_factor']} every {args[f'lr_decay_{unit}']} {unit}"
    return args["lr_scheduler_type"]
