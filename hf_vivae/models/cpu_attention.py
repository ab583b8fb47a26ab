"""Attention and dropout for training on CPUs, where torch's own are slow for batches of short clips.

torch's fused attention takes two to four times as long in bfloat16 as the products written out, and has no dropout on
CPUs, where torch writes it out with copies of each operand. Its dropout draws a 32-bit number in one thread for each
value.
"""

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "vivae_cpu"  # of the attention, for `set_attn_implementation`; no configuration keeps it
LONGEST = 1000  # tokens; beyond them, a weight for each pair takes more memory than it saves time
WEIGHTS = 2**20  # of attention, at once
LEVELS = 2**16  # that the random numbers of dropout have


def speed_up(model: PreTrainedModel) -> None:
    """Give a model that runs on CPUs this attention, unless another than sdpa was asked for, and this dropout.

    What it computes stays the same, but for rounding and the drawn numbers; nothing of it is saved.
    """
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` by `dropout`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return dropout(input, self.p) if self.training else input


def dropout(values: torch.Tensor, p: float) -> torch.Tensor:
    """Each value 0 with probability `p` (to 1 / 65,536), else divided by `1 - p`; any shape."""
    if values.device.type != "cpu" or not 0 < p < 1:
        return nn.functional.dropout(values, p)
    # four numbers of 16 bits from each draw of torch's generator, whose seed and state it keeps to
    drawn = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    kept = drawn[: values.numel()].view(values.shape) >= round(p * LEVELS) - LEVELS // 2
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
    """The library's interface of attention: written out where that is faster, else `sdpa_attention_forward`.

    Args:
        module: that attends.
        query: `(batch, heads, tokens, head_dim)`.
        key: the same.
        value: the same.
        attention_mask: which keys are seen, as booleans, or what is added to each score; None for all.
        dropout: probability with which a weight becomes 0.
        scaling: of the scores; 1 / sqrt(head_dim) by default.
        is_causal: of the module by default; causal attention is sdpa's.
        kwargs: the library's; with a position bias or a soft cap, attention is sdpa's.

    Returns:
        `(batch, tokens, heads, head_dim)` and None for the weights.
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
    # as many clips at once as leave their weights in the processor's cache, forward and backward
    clips = max(1, WEIGHTS // (query.shape[1] * query.shape[2] * key.shape[2]))
    parts = [operand.split(clips) for operand in (query, key, value)]
    masks = [attention_mask] * len(parts[0])
    if attention_mask is not None and len(attention_mask) > 1:
        masks = attention_mask.split(clips)
    contexts = [_written_out(*operands, dropout) for operands in zip(*parts, masks, strict=True)]
    return torch.cat(contexts), None


def _written_out(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, p: float
) -> torch.Tensor:
    # contiguous operands, where each product would copy its own
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
