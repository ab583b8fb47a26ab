"""Small configurations of all models, without dropout so that runs can be compared, and clips for them."""

import numpy as np
import torch

from hf_vivae.features.extraction import batch_features, extract_features

# of the models in full size, with six labels
PARAMETERS = {
    "logistic-regression": 264_606,
    "mlp": 4_442_726,
    "vit-32-30": 4_906_906,
    "vit-16-69": 4_934_506,
    "vit-8-23": 4_790_506,
    "vit-32-69": 5_151_306,
    "vit-base": 85_803_270,
    "wav2vec2": 94_570_118,
}
CONFIGS = {
    "logistic-regression": {"num_samples": 2000},
    "mlp": {"num_samples": 2000, "hidden_sizes": [16, 8], "hidden_dropout": 0.0},
    **{
        name: {
            "num_mel_bins": 64,
            "num_frames": 690,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "head_dim": 16,
            "intermediate_size": 24,
            "embedding_dropout": 0.0,
            "hidden_dropout": 0.0,
            "attention_dropout": 0.0,
        }
        for name in ("vit-32-30", "vit-16-69", "vit-8-23", "vit-32-69")
    },
    "vit-base": {
        "architecture_config": {"depth": 1, "embed_dim": 32, "num_heads": 2},
        "image_size": 32,
        "resize_size": 36,
    },
    "wav2vec2": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_dim": [8, 8, 8],
        "conv_kernel": [10, 8, 4],
        "conv_stride": [5, 4, 4],
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "classifier_proj_size": 8,
        "apply_spec_augment": False,
        **dict.fromkeys(
            ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop"), 0.0
        ),
    },
}


def clips(sampling_rate: int, count: int = 3, seed: int = 0) -> list[np.ndarray]:
    """Noise of 0.2 to 1.5 s, `(samples,)` each."""
    rng = np.random.default_rng(seed)
    return [
        rng.uniform(-0.5, 0.5, int(sampling_rate * seconds)).astype(np.float32)
        for seconds in rng.uniform(0.2, 1.5, count)
    ]


def model_inputs(extractor, sounds: list[np.ndarray], max_seconds: float) -> dict[str, torch.Tensor]:
    """Return the inputs of a model for clips `(samples,)` at its rate as one batch, not normalised over a corpus."""
    features = extract_features(extractor, sounds, max_seconds)
    tensors = {
        name: [torch.from_numpy(np.ascontiguousarray(clip)) for clip in values] for name, values in features.items()
    }
    return batch_features(extractor, tensors)
