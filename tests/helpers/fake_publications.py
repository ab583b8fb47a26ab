"""Publications for tests of cards, with predictions written by hand and tiny, untrained checkpoints."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fake_runs import write_run
from tiny import CONFIGS
from transformers import AutoModelForAudioClassification, HubertConfig, PreTrainedModel, Wav2Vec2FeatureExtractor

from hf_vivae.corpus import EMOTIONS
from hf_vivae.hub.publication import Publication, find_publications
from hf_vivae.models import ENCODER, PROBE, REGISTERED, build_feature_extractor, build_model
from hf_vivae.models.encoder import EncoderConfig, EncoderForAudioClassification
from hf_vivae.models.probe import ProbeConfig, ProbeForAudioClassification

OTHERS = (
    f"{PROBE}someone/hubert-tiny",
    f"{ENCODER}someone/hubert-tiny",
    "someone/hubert-tiny",
)  # besides the names of MODELS
LABELS = {"id2label": dict(enumerate(EMOTIONS)), "label2id": {label: index for index, label in enumerate(EMOTIONS)}}
RUN = {"from_scratch": False, "model_name_or_path": None}
TRAINING = {
    "per_device_train_batch_size": 30,
    "gradient_accumulation_steps": 2,
    "max_steps": -1,
    "num_train_epochs": 400.0,
}
ENVIRONMENT = {
    "hf_vivae": "0.1.0",
    "git_commit": "0123456789abcdef0123456789abcdef01234567+changes",
    "python": "3.11.7",
    "versions": {
        "torch": "2.11.0",
        "transformers": "5.23.0",
        "numpy": "2.4.6",
        "timm": "1.0.31",
        "scikit-learn": "1.9.1",
    },
    "platform": "Linux",
    "cpu_cores": 2,
    "device": "cpu",
}


def write_checkpoint(folder: Path, model: str) -> PreTrainedModel:
    """Save a tiny network of that kind with its feature extractor; the network."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    if model in REGISTERED:
        network, extractor = build_model(model, **CONFIGS.get(model, {}), **LABELS), _extractor(model)
    else:
        hubert = HubertConfig(**CONFIGS["wav2vec2"])
        if model.startswith(PROBE):
            network = ProbeForAudioClassification(ProbeConfig(hubert, inverse_regularization=0.1, **LABELS))
        elif model.startswith(ENCODER):
            network = EncoderForAudioClassification(EncoderConfig(hubert, **LABELS))
        else:
            hubert.id2label, hubert.label2id = LABELS["id2label"], LABELS["label2id"]
            network = AutoModelForAudioClassification.from_config(hubert)
        extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    network.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return network


def _extractor(model: str):
    samples = CONFIGS.get(model, {}).get("num_samples")
    return build_feature_extractor(model, **({"num_samples": samples} if samples else {}))


def publish(
    root: Path,
    model: str = "vit-32-30",
    corpus: str = "synthetic",
    problems: list[str] | None = None,
    settings: dict[str, Any] | None = None,
    command: list[str] | None = None,
    checkpoint: bool = True,
    **run,
) -> Publication:
    """Return the publication of a run of three folds, with the record that a real run has.

    Args:
        root: folder for the run.
        model: of `MODELS`, or one of `OTHERS`.
        corpus: its name.
        problems: of the corpus.
        settings: arguments of the run that differ.
        command: that started it.
        checkpoint: write the network too.
        run: other arguments of `write_run`.
    """
    of_corpus = {"name": corpus, "problems": problems or []}
    folders = write_run(root, model, settings={**RUN, "data": corpus, **(settings or {})}, corpus=of_corpus, **run)
    if checkpoint:
        write_checkpoint(folders[0], model)
    (publication,) = find_publications(root)
    record = json.loads(json.dumps(publication.record))
    record["training"] |= TRAINING
    record["environment"] = ENVIRONMENT | {"command": command or ["train.py", "--model", model, "--data", corpus]}
    record["fold"] = {"train": record["fold"]["test"][1::3], "test": record["fold"]["test"][::3]}
    return replace(publication, record=record | {"processes": 1, "peak_memory_mb": 1000.0, "from_folder": False})
