"""Performer attention (FAVOR+), whose cost is linear in the number of tokens.

Source: Choromanski et al., "Rethinking Attention with Performers", ICLR 2021, arXiv 2009.14794. exp(q . k) is the mean
of exp(w . q - |q|^2 / 2) exp(w . k - |k|^2 / 2) over Gaussian w. With a sample of w, keys and values are summed once
for each w, and no pair of tokens is compared. The error falls with the square root of the number of w, and grows fast
with the length of queries and keys. The vectors w are drawn once and kept; redrawing them during training, an option
of the source, is left out.
"""

import math

import torch
from torch import nn
from transformers.utils.generic import maybe_autocast

ATTENTIONS = ("softmax", "performer")


def check_attention(attention: str, num_random_features: int | None) -> None:
    """Check the type of attention, and the number of random features.

    Raises:
        ValueError: for another type, and for random features without Performer attention or below 1.
    """
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
            "it out for the default."
        )


def default_num_features(head_dim: int) -> int:
    """Return d log d, the number of Choromanski et al. for heads of width d, and at least d: 266 for 64."""
    return max(head_dim, round(head_dim * math.log(head_dim)))


def orthogonal_gaussian(num_features: int, head_dim: int) -> torch.Tensor:
    """Draw random vectors that are orthogonal in blocks of `head_dim`, each by itself standard normal (section 2.4).

    Args:
        num_features: number of vectors; the last block may be shorter.
        head_dim: width of a vector.

    Returns:
        `(num_features, head_dim)`, in 32 bits.
    """
    sizes = [min(head_dim, num_features - start) for start in range(0, num_features, head_dim)]
    # orthogonal_ draws uniformly, which a plain QR decomposition does not
    directions = torch.cat([nn.init.orthogonal_(torch.empty(size, head_dim, dtype=torch.float32)) for size in sizes])
    return directions * torch.randn(num_features, head_dim, dtype=torch.float32).norm(dim=1, keepdim=True)


def log_features(vectors: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """Return logarithms of positive random features: the mean of exp(those of q + those of k) is exp(q . k).

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
    """Estimate softmax attention of all tokens to all tokens, in time and memory linear in the tokens.

    Keys and values become one mean value for each random feature, and each query a distribution over features. This is
    the ratio of sums of Choromanski et al., without their small constant in the denominator: the features of the keys
    are divided by the largest one, and those of the queries multiplied by it, so that every sum is at least 1. It is
    computed in 32 bits under autocast too, because features are exponentials.

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
