"""Pretrained encoders of the Hub by short names.

`docs/backbones.md` has the sources of each entry, and advice on the choice.
"""

from dataclasses import dataclass
from pathlib import Path

from . import CLASSIC, ENCODER, MODELS, SpectrogramViTConfig, split_name


@dataclass(frozen=True)
class Backbone:
    """Pretrained encoder of the Hub.

    Args:
        hub_id: owner and name.
        parameters: number of parameters of the published encoder, in millions.
        license: identifier of the licence that its card names or links; `unknown` where none was found.
        vivae: accuracy on VIVAE that ARCH publishes for a linear layer on the frozen last layer, leave one speaker
            out, in % (La Quatra et al., ICASSP Workshops 2024); None where none is published.
    """

    hub_id: str
    parameters: float
    license: str
    vivae: float | None = None


BACKBONES: dict[str, Backbone] = {
    "whisper-tiny": Backbone("openai/whisper-tiny", 8.2, "apache-2.0"),
    "whisper-base": Backbone("openai/whisper-base", 20.6, "apache-2.0"),
    "whisper-small": Backbone("openai/whisper-small", 88.2, "apache-2.0"),
    "whisper-medium": Backbone("openai/whisper-medium", 307.2, "apache-2.0"),
    "voc2vec-hubert": Backbone("alkiskoudounas/voc2vec-hubert-ls-pt", 94.4, "unknown"),
    "hubert-base": Backbone("facebook/hubert-base-ls960", 94.4, "apache-2.0", 40.48),
    "hubert-large": Backbone("facebook/hubert-large-ll60k", 315.4, "apache-2.0", 40.95),
    "hubert-xlarge": Backbone("facebook/hubert-xlarge-ll60k", 962.5, "apache-2.0", 42.72),
    "wavlm-base-plus": Backbone("microsoft/wavlm-base-plus", 94.4, "cc-by-sa-3.0", 36.17),
    "wavlm-large": Backbone("microsoft/wavlm-large", 315.5, "cc-by-sa-3.0", 42.51),
    "unispeech-sat-base": Backbone("microsoft/unispeech-sat-base", 94.4, "cc-by-sa-3.0"),
    "data2vec-base": Backbone("facebook/data2vec-audio-base", 93.2, "apache-2.0", 30.19),
    "w2v-bert": Backbone("facebook/w2v-bert-2.0", 580.5, "mit"),
    "ast": Backbone("MIT/ast-finetuned-audioset-10-10-0.4593", 86.2, "bsd-3-clause"),
}


def is_encoder(model: str) -> bool:
    """Return True for an encoder with this package's head: a name of `BACKBONES`, or `encoder:` and another."""
    return model in BACKBONES or split_name(model)[0] == ENCODER


def encoder_source(model: str) -> str:
    """Return folder or Hub id of the encoder of a model that is not one of `MODELS`."""
    name = split_name(model)[1]
    return BACKBONES[name].hub_id if name in BACKBONES else name


def recipe_stems(model: str) -> list[str]:
    """Return the stems of the files that may describe a model in a folder of `recipes/` or in `model_cards/`.

    The model's own comes first, then the one that it shares with others: `vit`, `encoder`, `probe`, `classic` or
    `other`.
    """
    prefix, _ = split_name(model)
    if prefix:
        return [prefix.removesuffix(":")]
    if model in CLASSIC:
        return ["classic"]
    if model in MODELS:
        return [model, "vit"] if MODELS[model].config_class is SpectrogramViTConfig else [model]
    # a checkpoint of the Hub is an encoder with a head
    return [model, "encoder"] if model in BACKBONES else ["other", "encoder"]


def recipe_file(folder: Path, model: str) -> Path:
    """Return the YAML of a model in a folder: the first of `recipe_stems` that is there, or the path of its own."""
    files = [folder / f"{stem}.yaml" for stem in recipe_stems(model)]
    return next((file for file in files if file.is_file()), files[0])
