"""The library's masks (SpecAugment, Park et al., Interspeech 2019), which fail on short clips and in WavLM."""

from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel


def mend_masks(model: PreTrainedModel) -> None:
    """Have the encoder of a model mask no frames of a batch whose clips are all shorter than one mask.

    The library refuses such a batch, which would end a training at the first one with clips of up to 200 ms alone. And
    where a configuration lacks `mask_feature_min_masks` (WavLM's), which masks of features need, it gets the 0 of the
    others.
    """
    for module in model.modules():
        if hasattr(module, "_mask_hidden_states"):
            module.register_forward_pre_hook(_without_masks, with_kwargs=True)
            if not hasattr(module.config, "mask_feature_min_masks"):
                module.config.mask_feature_min_masks = 0


def _without_masks(encoder: PreTrainedModel, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict] | None:
    inputs = args[0] if args else kwargs[encoder.main_input_name]
    frames = _frames(encoder.config, inputs)
    if not encoder.training or encoder.config.mask_time_prob == 0 or frames >= encoder.config.mask_time_length:
        return None
    none = torch.zeros(len(inputs), frames, dtype=torch.bool, device=inputs.device)
    return args, kwargs | {"mask_time_indices": none}


def _frames(config: PreTrainedConfig, inputs: torch.Tensor) -> int:
    """Frames of waveforms `(batch, samples)` behind the convolutions, or of spectrograms `(batch, frames, bins)`."""
    frames = inputs.shape[1]
    if inputs.ndim == 2:
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            frames = (frames - kernel) // stride + 1
    return frames
