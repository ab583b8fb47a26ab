"""Attention whose cost is linear in the tokens: FAVOR+ of Choromanski et al., "Rethinking Attention with Performers".

ICLR 2021, arXiv 2009.14794. exp(q . k) is the mean of exp(w . q - |q|^2 / 2) exp(w . k - |k|^2 / 2) over Gaussian w.
With some random w in place of all, softmax attention meets keys and values once, and no token meets another token. The
error falls as the square root of their number, and grows fast with the length of queries and keys. The vectors w are
drawn once and kept; the paper's option of drawing them anew while training is left out.
"""

import math

import torch
from torch import nn
from transformers.utils.generic import maybe_autocast

ATTENTIONS = ("softmax", "performer")


def check_attention(attention: str, num_random_features: int | None) -> None:
    """Refuse an attention that does not exist, and random features that it cannot have, with a ValueError."""
    if attention not in ATTENTIONS:
        raise ValueError(
            f"expected attention {' or '.join(map(repr, ATTENTIONS))}, found {attention!r}; use one of these."
        )
    if num_random_features is None:
        return
    if attention != "performer":
        raise ValueError(
            f"expected num_random_features with attention 'performer' alone, found {num_random_features!r} with "
            f"{attention!r}; leave it out."
        )
    if not isinstance(num_random_features, int) or num_random_features < 1:
        raise ValueError(
            f"expected num_random_features to be a whole number of at least 1, found {num_random_features!r}; leave "
            "it out for the paper's number."
        )


def default_num_features(head_dim: int) -> int:
    """The paper's d log d random features for heads of width d, and at least d: 266 for 64."""
    return max(head_dim, round(head_dim * math.log(head_dim)))


def orthogonal_gaussian(num_features: int, head_dim: int) -> torch.Tensor:
    """Random vectors that are orthogonal in blocks of `head_dim`, each by itself standard normal (section 2.4).

    Args:
        num_features: how many; of any number, the last block is the shorter one.
        head_dim: their width.

    Returns:
        `(num_features, head_dim)`, in 32 bits.
    """
    sizes = [min(head_dim, num_features - start) for start in range(0, num_features, head_dim)]
    # orthogonal_ draws uniformly, which a plain QR decomposition does not
    directions = torch.cat([nn.init.orthogonal_(torch.empty(size, head_dim, dtype=torch.float32)) for size in sizes])
    return directions * torch.randn(num_features, head_dim, dtype=torch.float32).norm(dim=1, keepdim=True)


def log_features(vectors: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """Logarithms of positive random features: on average, exp of the sum of those of q and k is exp(q . k).

    Args:
        vectors: scaled queries or keys `(..., tokens, head_dim)`.
        projection: random vectors `(num_features, head_dim)`.

    Returns:
        w . x - |x|^2 / 2, `(..., tokens, num_features)`.
    """
    return vectors @ projection.T - vectors.square().sum(dim=-1, keepdim=True) / 2


def performer_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, projection: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Softmax attention of all tokens to all tokens, estimated in time and memory linear in the tokens.

    Keys and values become one mean value for each random feature, and each query a distribution over features. This is
    the paper's ratio of sums, without its small constant in the denominator: a feature is divided by its largest key,
    and the queries take the factor over, so that every sum is at least 1. Computed in 32 bits under autocast, too,
    because features are exponentials.

    Args:
        query: `(batch, heads, tokens, head_dim)`.
        key: as `query`.
        value: as `query`.
        projection: random vectors of all heads, `(num_features, head_dim)`.
        scaling: factor of the scores q . k, usually head_dim**-0.5.

    Returns:
        `(batch, tokens, heads, head_dim)`, in the precision of `value`.
    """
    with maybe_autocast(query.device.type, enabled=False):
        projection = projection.float()
        keys = log_features(key.float() * scaling**0.5, projection)  # (batch, heads, tokens, num_features)
        largest = keys.detach().amax(dim=2, keepdim=True)
        keys = (keys - largest).exp()
        sums = keys.sum(dim=2, keepdim=True)
        means = keys.transpose(2, 3) @ value.float() / sums.transpose(2, 3)  # (batch, heads, num_features, head_dim)
        queries = query.float() * scaling**0.5 @ projection.T  # |q|^2 / 2 is the same for all features: it cancels
        weights = torch.softmax(queries + (largest + sums.log()), dim=3)
        return (weights @ means).transpose(1, 2).to(value.dtype)
