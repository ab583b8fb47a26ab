"""Attention, dropout and the last block for CPUs, where torch's own are slow for batches of short clips.

torch's fused attention has no dropout on CPUs: torch then computes the products with copies of each operand. Without
dropout, separate products are faster for a few tokens, and in bfloat16 on processors without AMX, where the fused
kernel takes two to four times as long. torch's dropout draws a 32-bit number in one thread for each value. Of the last
block, a model that classifies by its class token needs no other token. Nothing of this file is exported with a
checkpoint.
"""

import ctypes
import math
import platform
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer

from .spectrogram_vit import SpectrogramViTForAudioClassification, SpectrogramViTLayer

NAME = "vivae_cpu"  # name of the attention, for `set_attn_implementation`; not saved in a configuration
SHORT = 64  # tokens, up to which separate products are faster in any case
LONGEST = 1000  # tokens; for more, the weights of all pairs take too much memory
WEIGHTS = 2**21  # attention weights computed at once
NOTHING = torch.finfo(torch.float32).min  # score of a key that is not attended to
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
LEVELS = 2**16  # values of the random numbers of dropout


def has_bfloat16() -> bool:
    """Return whether the processor has instructions for products in bfloat16; without them it is slower."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


@lru_cache  # attention asks in each layer
def _has_amx() -> bool:
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def speed_up(model: PreTrainedModel) -> None:
    """Replace attention (if it is sdpa), dropout and the last block of a model on CPUs by those of this file.

    The model computes the same, except for rounding and the random numbers of dropout; nothing of it is saved. Memory
    that this process frees is kept for its next batch.
    """
    _keep_freed_memory()
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))
    if isinstance(model, SpectrogramViTForAudioClassification):
        config, last = model.config, model.layers[-1]
        plain = type(last.attention.qkv) is nn.Linear  # not with an adapter, whose weights are its own
        if config.pooling == "class" and config._attn_implementation == NAME and plain:
            model.layers[-1] = ClassTokenLayer(last, config.num_patches + 1)


def _keep_freed_memory() -> None:
    """Let glibc keep memory that is freed, so that the next batch does not get it from the system page by page.

    A batch of a small model allocates and frees tens or hundreds of megabytes. Blocks above 32 MiB cannot be kept.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(M_MMAP_THRESHOLD, 2**25)


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, computed by `dropout`."""

    tokens: int | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return dropout(input, self.p, self.tokens) if self.training else input


def dropout(values: torch.Tensor, p: float, tokens: int | None = None) -> torch.Tensor:
    """Set each value to 0 with probability `p` (to 1 / 65,536), and divide the others by `1 - p`.

    Args:
        values: any shape; `(..., tokens, width)` with `tokens`.
        p: probability.
        tokens: number of tokens that random numbers are drawn for, where the values are those of the first ones.
    """
    if values.device.type != "cpu" or not 0 < p < 1:
        return nn.functional.dropout(values, p)
    shape = (*values.shape[:-2], tokens, values.shape[-1]) if tokens else values.shape
    count = math.prod(shape)
    # four numbers of 16 bits from each draw of torch's generator, so that its seed and state hold here too
    numbers = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    numbers = numbers[:count].view(shape)
    if tokens:
        numbers = numbers[..., : values.shape[-2], :]
    # written in the type of the values, since converting booleans is one more pass
    kept = torch.ge(numbers, round(p * LEVELS) - LEVELS // 2, out=torch.empty_like(values, requires_grad=False))
    return values * kept.div_(1 - p)


class ClassTokenLayer(SpectrogramViTLayer):
    """Last block of a model that classifies by its class token, which is computed for this token alone.

    It has the modules of the block, so that a checkpoint is the same one. Random numbers of dropout are drawn for all
    tokens, so that a training takes the way of the whole block.

    Args:
        layer: the block.
        tokens: number of tokens of its input.
    """

    def __init__(self, layer: SpectrogramViTLayer, tokens: int) -> None:
        GradientCheckpointingLayer.__init__(self)
        for name, child in layer.named_children():
            self.add_module(name, child)
        for child in self.modules():
            if isinstance(child, Dropout):
                child.tokens = tokens
        self.train(layer.training)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return `(batch, 1, hidden_size)` for `(batch, tokens, hidden_size)`."""
        attention, states = self.attention, self.attention_norm(hidden_states)
        inner = attention.projection.in_features
        of_query, of_others = attention.qkv.weight.split((inner, 2 * inner))
        projected = (
            nn.functional.linear(states[:, :1], of_query),
            *nn.functional.linear(states, of_others).chunk(2, -1),
        )
        heads = (len(hidden_states), -1, attention.config.num_attention_heads, attention.config.head_dim)
        context = attention.attend(*(part.view(heads).transpose(1, 2) for part in projected))
        hidden_states = hidden_states[:, :1] + attention.dropout(attention.projection(context.flatten(2)))
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Compute attention by separate matrix products where that is faster, else by `sdpa_attention_forward`.

    The signature is that of attention functions of transformers.

    Args:
        module: the attention layer.
        query: `(batch, heads, tokens, head_dim)`.
        key: as `query`.
        value: as `query`.
        attention_mask: booleans that are True for keys that are attended to, or values that are added to the scores;
            None for all keys.
        dropout: probability with which a weight becomes 0.
        scaling: factor of the scores; 1 / sqrt(head_dim) by default.
        is_causal: causal attention, which is left to sdpa; by default the attribute of the module.
        kwargs: further arguments of transformers; a position bias, a soft cap and a cache are left to sdpa.

    Returns:
        Output `(batch, tokens, heads, head_dim)`, and None in place of the weights.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    special = (causal and attention_mask is None) or any(
        kwargs.get(name) is not None for name in ("position_bias", "softcap", "cache")
    )
    special = special or torch.compiler.is_exporting()  # the parts of a batch would fix its size
    small = query.device.type == "cpu" and key.shape[2] <= LONGEST and key.shape[1] == query.shape[1]
    faster = dropout or key.shape[2] <= SHORT or (query.dtype == torch.bfloat16 and not _has_amx())
    if special or not small or not faster:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    packed = _packed(query, key, value)
    if packed is not None:
        return PackedAttentionProducts.apply(packed, attention_mask, scaling, dropout), None
    return AttentionProducts.apply(query, key, value, attention_mask, scaling, dropout), None


def _packed(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor | None:
    """Return the tensor of all three, `(batch, tokens, 3, heads, head_dim)`, where one projection computed them."""
    projected = query._base
    if projected is None or projected.numel() != 3 * query.numel() or not projected.is_contiguous():
        return None
    batch, heads, tokens, width = query.shape
    packed = projected.view(batch, tokens, 3, heads, width)
    same = all(
        (part.data_ptr(), part.shape, part.stride()) == (operand.data_ptr(), operand.shape, operand.stride())
        for part, operand in zip(packed.permute(2, 0, 3, 1, 4), (query, key, value), strict=True)
    )
    return packed if same else None


class AttentionProducts(torch.autograd.Function):
    """Attention by matrix products, with a backward pass of its own.

    Gradients by autograd would copy each operand once more for each product, and join the parts of a batch again.
    """

    @staticmethod
    def forward(
        ctx,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        scaling: float,
        p: float,
    ) -> torch.Tensor:
        """Return `(batch, tokens, heads, head_dim)`; the arguments are those of `attend`."""
        batch, heads, tokens, width = query.shape
        drawn = max(tokens, key.shape[2])  # of one token, as of all
        # made contiguous once, since each product would copy them
        scaled = torch.empty_like(query, memory_format=torch.contiguous_format)
        query = torch.mul(query, scaling, out=scaled)
        key, value = key.contiguous(), value.contiguous()
        weights, dropped = [], []
        context = query.new_empty(batch, tokens, heads, width)
        for part in _parts(batch, heads * drawn * key.shape[2]):
            scores = (query[part] @ key[part].transpose(2, 3)).float()
            if mask is not None:
                clips = mask[part] if len(mask) > 1 else mask
                scores.masked_fill_(~clips, NOTHING) if mask.dtype == torch.bool else scores.add_(clips)
            weights.append(scores.softmax(dim=-1).to(value.dtype))  # five times as fast as in bfloat16, and exact
            dropped.append(dropout(weights[-1], p, drawn) if p else weights[-1])
            context[part] = (dropped[-1] @ value[part]).transpose(1, 2)
        ctx.save_for_backward(query, key, value, *weights, *(dropped if p else ()))
        ctx.scaling, ctx.drawn = scaling, drawn
        return context

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of query, key and value; `grad` is `(batch, tokens, heads, head_dim)`."""
        # laid out as projections, which take them without a copy
        grads = [torch.empty_like(operand.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
                 for operand in ctx.saved_tensors[:3]]  # fmt: skip
        AttentionProducts.write_gradients(ctx, grad, grads)
        return *grads, None, None, None

    @staticmethod
    def write_gradients(ctx, grad: torch.Tensor, grads: Sequence[torch.Tensor]) -> None:
        """Write the gradients of query, key and value into `grads`, `(batch, heads, tokens, head_dim)` each."""
        query, key, value, *weights = ctx.saved_tensors
        parts = _parts(len(query), query.shape[1] * ctx.drawn * key.shape[2])
        for number, part in enumerate(parts):
            weight, dropped = weights[number], weights[number - len(parts)]
            context_grad = grad[part].transpose(1, 2).contiguous()
            grads[2][part] = dropped.transpose(2, 3) @ context_grad
            # of softmax and dropout at once, since a dropped weight is 0
            scores_grad = (context_grad @ value[part].transpose(2, 3)).float().mul_(dropped)
            scores_grad.addcmul_(weight, scores_grad.sum(dim=-1, keepdim=True), value=-1)
            scores_grad = scores_grad.to(value.dtype)
            torch.mul(scores_grad @ key[part], ctx.scaling, out=grads[0][part])
            grads[1][part] = scores_grad.transpose(2, 3) @ query[part]


class PackedAttentionProducts(torch.autograd.Function):
    """`AttentionProducts` for the output of one projection to query, key and value.

    Its gradient is one tensor; autograd would join those of the three.
    """

    @staticmethod
    def forward(ctx, packed: torch.Tensor, mask: torch.Tensor | None, scaling: float, p: float) -> torch.Tensor:
        """Return `(batch, tokens, heads, head_dim)` for `(batch, tokens, 3, heads, head_dim)`."""
        return AttentionProducts.forward(ctx, *packed.permute(2, 0, 3, 1, 4), mask, scaling, p)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradient of `packed`."""
        batch, tokens, heads, width = grad.shape
        packed = grad.new_empty(batch, tokens, 3, heads, width)
        AttentionProducts.write_gradients(ctx, grad, packed.permute(2, 0, 3, 1, 4))
        return packed, None, None, None


def _parts(batch: int, weights: int) -> list[slice]:
    """Return slices of as many clips as have weights that fit into the processor's cache, in equal parts."""
    count = -(-batch // max(1, -(-batch * weights // WEIGHTS)))
    return [slice(start, start + count) for start in range(0, batch, count)]


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
