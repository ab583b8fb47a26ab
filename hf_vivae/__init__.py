"""Emotion in non-verbal vocalisation, on the Hugging Face stack.

Importing this package registers its models and feature extractors with the library's Auto classes.
"""

from .version import __version__, explained_imports

with explained_imports():
    from .corpus import EMOTIONS, INTENSITIES, load_folder, load_synthetic, load_vivae
    from .inference.pipeline import load_classifier
    from .models import MODELS, build_feature_extractor, build_model
    from .splits import make_folds
    from .splits.folds import Fold
    from .splits.protocols import PROTOCOLS


__all__ = [
    "EMOTIONS",
    "INTENSITIES",
    "MODELS",
    "PROTOCOLS",
    "Fold",
    "__version__",
    "build_feature_extractor",
    "build_model",
    "load_classifier",
    "load_folder",
    "load_synthetic",
    "load_vivae",
    "make_folds",
]
