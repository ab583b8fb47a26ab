"""Masks of padding for layers of encoders that ignore the attention mask.

Group norm (wav2vec2-base and similar) computes its statistics over padding, the convolutions of data2vec and of
wav2vec2-conformer mix it into the clip's frames, and batch norm learns from it. With these corrected, a clip in a
padded batch has the output of the unchanged model for the clip alone: checkpoints keep the classes of transformers,
and their scores are those of `pipeline`.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

CONFORMER, HUBERT = WITH_BATCH_NORM = ("Wav2Vec2ConformerConvolutionModule", "HubertPositionalConvEmbedding")


class MaskedGroupNorm(nn.GroupNorm):
    """Group norm with one group per channel, with statistics over the clip's frames only.

    Attributes:
        frames: number of each clip's own frames, `(batch,)`; set before each batch, None without padding.
    """

    frames: torch.Tensor | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise `(batch, channels, frames)`; the values of padding have no meaning."""
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

    The statistics of a batch depend on its padding and on the other clips; and statistics that change in a frozen
    encoder, or in one of which only an adapter is saved, would be lost.
    """

    def train(self, mode: bool = True) -> "FixedBatchNorm":
        """Keep evaluation mode; `mode` has no effect."""
        return super().train(False)


def mask_padding(model: PreTrainedModel) -> PreTrainedModel:
    """Make all layers of a model respect its `attention_mask` `(batch, samples)`, in place; return the model.

    Weights, their names and the configuration do not change, nor does a model without such layers. Batch norms keep
    their statistics; in an encoder of random weights, these stay mean 0 and variance 1, so that a conformer that is
    trained from scratch has a learnt scale and shift there, and no normalisation.
    """
    for module in model.modules():
        if type(module).__name__ in WITH_BATCH_NORM and module.batch_norm is not None:
            module.batch_norm.__class__ = FixedBatchNorm
            module.batch_norm.eval()
    norms, layers = _unmasked_layers(model)
    for norm in norms:
        norm.__class__ = MaskedGroupNorm
    for layer in layers:
        layer.frames = None
        layer.register_forward_pre_hook(_silence_padding)
    if norms or layers:
        model.register_forward_pre_hook(_count_frames, with_kwargs=True)
    return model


def _unmasked_layers(model: nn.Module) -> tuple[list[nn.GroupNorm], list[nn.Module]]:
    """Return the group norms and the convolutions that ignore the mask."""
    modules = list(model.modules())
    norms = [m for m in modules if isinstance(m, nn.GroupNorm) and m.num_groups == m.num_channels]
    stacked = [m for m in modules if type(m).__name__ == "Data2VecAudioPositionalConvLayer"]
    depthwise = [m.depthwise_conv for m in modules if type(m).__name__ == CONFORMER]
    positional = [m.conv for m in modules if type(m).__name__ == HUBERT and m.batch_norm is not None]
    return norms, stacked + depthwise + positional


def _count_frames(model: PreTrainedModel, args: tuple, kwargs: dict) -> None:
    mask = kwargs.get("attention_mask")
    samples = None if mask is None else mask.sum(-1)
    # searched again: on several GPUs in one process, this is a copy of the model that was changed
    norms, layers = _unmasked_layers(model)
    for norm in norms:  # after the first convolution
        kernel, stride = model.config.conv_kernel[0], model.config.conv_stride[0]
        # a clip shorter than a frame has one frame, with padding in it
        norm.frames = None if samples is None else ((samples - kernel) // stride + 1).clamp(min=1)
    for layer in layers:  # after all convolutions
        layer.frames = None if samples is None else model._get_feat_extract_output_lengths(samples)


def _silence_padding(layer: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    (hidden_states,) = args  # (batch, width, frames)
    return args if layer.frames is None else (hidden_states * _own_frames(layer.frames, hidden_states),)


def _own_frames(frames: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return 1 for the frames of the clip and 0 for those of padding, `(batch, 1, frames)`."""
    return (torch.arange(like.shape[-1], device=like.device) < frames[:, None])[:, None].to(like.dtype)
