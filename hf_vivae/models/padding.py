"""Padding that no score depends on, also in encoders whose first layers see it.

Group norm (wav2vec2-base and its kin) takes its statistics over padding, the convolutions of data2vec and of
wav2vec2-conformer carry it inwards, mask or not, and batch norm learns from it. With these mended, a clip in a padded
batch gives what the library's own model gives for the clip alone: checkpoints keep the library's classes, and their
scores are those of `pipeline`.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

CONFORMER, HUBERT = WITH_BATCH_NORM = ("Wav2Vec2ConformerConvolutionModule", "HubertPositionalConvEmbedding")


class MaskedGroupNorm(nn.GroupNorm):
    """Group norm of `(batch, channels, frames)`, a group for each channel, with the statistics of the clip's frames.

    Args:
        frames: how many of each clip are its own, `(batch,)`, from the first on; set before each batch, None where
            nothing is padded.
    """

    frames: torch.Tensor | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Frames of padding come out like the others, and mean nothing."""
        if self.frames is None:
            return super().forward(input)
        values = input.float()
        mask = _own_frames(self.frames, values)
        count = self.frames[:, None, None]
        mean = (values * mask).sum(-1, keepdim=True) / count
        variance = ((values - mean).square() * mask).sum(-1, keepdim=True) / count
        normalized = (values - mean) * (variance + self.eps).rsqrt()
        return (normalized * self.weight[:, None] + self.bias[:, None]).to(input.dtype)


class FixedBatchNorm(nn.BatchNorm1d):
    """Batch norm with the statistics of its checkpoint, in training too.

    Those of a batch hold its padding and whoever is in it; and statistics that move in an encoder that is frozen, or
    that is kept as an adapter beside its name, would be lost or make it another.
    """

    def train(self, mode: bool = True) -> "FixedBatchNorm":
        """Stay as it is."""
        return super().train(False)


def mask_padding(model: PreTrainedModel) -> PreTrainedModel:
    """The model itself, whose layers from now on heed the `attention_mask` `(batch, samples)` that it is given.

    Its weights, their names and its configuration stay as they are, and so does a model without such layers. Batch
    norms keep their statistics; in an encoder of random weights, these are mean 0 and variance 1 for ever, so that a
    conformer that is trained from scratch has a learnt scale and shift there, and no normalisation.
    """
    for module in model.modules():
        if type(module).__name__ in WITH_BATCH_NORM and module.batch_norm is not None:
            module.batch_norm.__class__ = FixedBatchNorm
            module.batch_norm.eval()
    norms, layers = _leaking(model)
    for norm in norms:
        norm.__class__ = MaskedGroupNorm
    for layer in layers:
        layer.frames = None
        layer.register_forward_pre_hook(_silence_padding)
    if norms or layers:
        model.register_forward_pre_hook(_count_frames, with_kwargs=True)
    return model


def _leaking(model: nn.Module) -> tuple[list[nn.GroupNorm], list[nn.Module]]:
    modules = list(model.modules())
    norms = [one for one in modules if isinstance(one, nn.GroupNorm) and one.num_groups == one.num_channels]
    stacked = [one for one in modules if type(one).__name__ == "Data2VecAudioPositionalConvLayer"]
    depthwise = [one.depthwise_conv for one in modules if type(one).__name__ == CONFORMER]
    shifted = [one.conv for one in modules if type(one).__name__ == HUBERT and one.batch_norm is not None]
    return norms, stacked + depthwise + shifted


def _count_frames(model: PreTrainedModel, args: tuple, kwargs: dict) -> None:
    mask = kwargs.get("attention_mask")
    samples = None if mask is None else mask.sum(-1)
    # looked up anew: on several GPUs in one process, this is a copy of the model that was changed
    norms, layers = _leaking(model)
    for norm in norms:  # behind the first convolution
        kernel, stride = model.config.conv_kernel[0], model.config.conv_stride[0]
        # a clip that is shorter than a frame has one, with padding in it
        norm.frames = None if samples is None else ((samples - kernel) // stride + 1).clamp(min=1)
    for layer in layers:  # behind all of them
        layer.frames = None if samples is None else model._get_feat_extract_output_lengths(samples)


def _silence_padding(layer: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    (hidden_states,) = args  # (batch, width, frames)
    return args if layer.frames is None else (hidden_states * _own_frames(layer.frames, hidden_states),)


def _own_frames(frames: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """1 for the frames of the clip and 0 for those of padding, `(batch, 1, frames)`."""
    return (torch.arange(like.shape[-1], device=like.device) < frames[:, None])[:, None].to(like.dtype)
