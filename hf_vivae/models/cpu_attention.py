"""Attention and dropout for training on CPUs, where torch's own are slow for batches of short clips.

torch's fused attention takes two to four times as long in bfloat16 as separate matrix products, and on CPUs it has no
dropout: torch then computes the products with copies of each operand. torch's dropout draws a 32-bit number in one
thread for each value. Nothing of this file is exported with a checkpoint.
"""

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "vivae_cpu"  # name of the attention, for `set_attn_implementation`; not saved in a configuration
LONGEST = 1000  # tokens; for more, the weights of all pairs take too much memory
WEIGHTS = 2**20  # attention weights computed at once
LEVELS = 2**16  # values of the random numbers of dropout


def speed_up(model: PreTrainedModel) -> None:
    """Replace attention (if it is sdpa) and dropout of a model on CPUs by those of this file.

    The model computes the same, except for rounding and the random numbers of dropout; nothing of it is saved.
    """
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, computed by `dropout`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return dropout(input, self.p) if self.training else input


def dropout(values: torch.Tensor, p: float) -> torch.Tensor:
    """Set each value to 0 with probability `p` (to 1 / 65,536), and divide the others by `1 - p`; any shape."""
    if values.device.type != "cpu" or not 0 < p < 1:
        return nn.functional.dropout(values, p)
    # four numbers of 16 bits from each draw of torch's generator, so that its seed and state hold here too
    numbers = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    kept = numbers[: values.numel()].view(values.shape) >= round(p * LEVELS) - LEVELS // 2
    return values * kept.to(values.dtype).div_(1 - p)


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
    small = query.device.type == "cpu" and key.shape[2] <= LONGEST and key.shape[1] == query.shape[1]
    if special or not small or not (dropout or query.dtype == torch.bfloat16):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs
        )
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    # as many clips at once as have weights that fit into the processor's cache, forward and backward
    clips = max(1, WEIGHTS // (query.shape[1] * query.shape[2] * key.shape[2]))
    parts = [operand.split(clips) for operand in (query, key, value)]
    masks = [attention_mask] * len(parts[0])
    if attention_mask is not None and len(attention_mask) > 1:
        masks = attention_mask.split(clips)
    contexts = [_attend_by_products(*operands, dropout) for operands in zip(*parts, masks, strict=True)]
    return torch.cat(contexts), None


def _attend_by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, p: float
) -> torch.Tensor:
    # made contiguous once, since each product would copy them
    scores = query.contiguous() @ key.contiguous().transpose(2, 3)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    weights = scores.float().softmax(dim=-1).to(value.dtype)  # five times as fast as in bfloat16, and exact
    weights = dropout(weights, p) if p else weights
    return (weights @ value.contiguous()).transpose(1, 2)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
