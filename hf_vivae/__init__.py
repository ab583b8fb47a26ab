"""Emotion in non-verbal vocalisation, on the Hugging Face stack.

Importing this package registers its models and feature extractors with the library's Auto classes. What trains is
imported at its first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__, explained_imports

with explained_imports():
    from .corpus import EMOTIONS, INTENSITIES, load_emogator, load_folder, load_hub_dataset, load_synthetic, load_vivae
    from .inference.pipeline import load_classifier
    from .models import MODELS, build_feature_extractor, build_model
    from .splits import make_folds
    from .splits.folds import Fold
    from .splits.protocols import PROTOCOLS

if TYPE_CHECKING:
    from .features.cache import build_features
    from .features.extraction import AudioDataCollator
    from .metrics import make_compute_metrics
    from .training.arguments import VivaeTrainingArguments
    from .training.run import train
    from .training.trainer import VivaeTrainer

__all__ = [
    "EMOTIONS",
    "INTENSITIES",
    "MODELS",
    "PROTOCOLS",
    "AudioDataCollator",
    "Fold",
    "VivaeTrainer",
    "VivaeTrainingArguments",
    "__version__",
    "build_feature_extractor",
    "build_features",
    "build_model",
    "load_classifier",
    "load_emogator",
    "load_folder",
    "load_hub_dataset",
    "load_synthetic",
    "load_vivae",
    "make_compute_metrics",
    "make_folds",
    "train",
]

_LAZY = {
    "AudioDataCollator": "features.extraction",
    "VivaeTrainer": "training.trainer",
    "VivaeTrainingArguments": "training.arguments",
    "build_features": "features.cache",
    "make_compute_metrics": "metrics",
    "train": "training.run",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
