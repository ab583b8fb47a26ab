"""Vision transformer on a mel spectrogram, trained from scratch."""

import math

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .performer import check_attention, default_num_features, orthogonal_gaussian, performer_attention

POOLINGS = ("class", "mean")


class SpectrogramViTConfig(PreTrainedConfig):
    """Configuration of `SpectrogramViTForAudioClassification`.

    Args:
        num_mel_bins: height of the spectrogram.
        num_frames: width of the spectrogram.
        patch_size: mel bins and frames of a patch, which divide height and width.
        hidden_size: width of a token.
        num_hidden_layers: number of blocks.
        num_attention_heads: heads in each block.
        head_dim: width of a head, independent of `hidden_size`.
        intermediate_size: width of the hidden layer of the MLP in each block.
        embedding_dropout: dropout of the tokens before the first block.
        hidden_dropout: dropout after the output projection of attention and after both layers of the MLP.
        attention_dropout: dropout of the attention weights; without effect on `performer`, which has none.
        attention: `softmax`, or `performer` (see `performer.py`), whose cost is linear in the patches.
        num_random_features: random features of `performer`, in each layer; None for head_dim log head_dim.
        pooling: pooling of the tokens after the last block and its norm: `class`, the first one alone, or `mean` over
            all (Beyer, Zhai and Kolesnikov, "Better plain ViT baselines for ImageNet-1k", 2022).
        hop_length: step between frames of the spectrogram, in samples, which the feature extractor uses.
        kwargs: arguments of `PreTrainedConfig`, such as `id2label` and `attn_implementation`.

    Raises:
        ValueError: where the patch does not divide the spectrogram, with the sizes that do; for another attention or
            pooling, or impossible random features.
    """

    model_type = "vivae_spectrogram_vit"

    def __init__(
        self,
        num_mel_bins: int = 64,
        num_frames: int = 690,
        patch_size: tuple[int, int] = (32, 30),
        hidden_size: int = 200,
        num_hidden_layers: int = 5,
        num_attention_heads: int = 16,
        head_dim: int = 64,
        intermediate_size: int = 300,
        embedding_dropout: float = 0.05,
        hidden_dropout: float = 0.05,
        attention_dropout: float = 0.05,
        attention: str = "softmax",
        num_random_features: int | None = None,
        pooling: str = "class",
        hop_length: int = 64,
        **kwargs,
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"expected pooling out of {', '.join(POOLINGS)}, found {pooling!r}; give one of them.")
        for name, whole, part in zip(("mel bins", "frames"), (num_mel_bins, num_frames), patch_size, strict=True):
            if part < 1 or whole % part:
                divisors = ", ".join(str(d) for d in range(1, whole + 1) if whole % d == 0)
                raise ValueError(
                    f"patch_size {tuple(patch_size)} must divide the spectrogram of {num_mel_bins} mel bins and "
                    f"{num_frames} frames, but {part} does not divide the {whole} {name}; use one of {divisors}."
                )
        self.num_mel_bins = num_mel_bins
        self.num_frames = num_frames
        self.patch_size = list(patch_size)
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.head_dim = head_dim
        self.intermediate_size = intermediate_size
        self.embedding_dropout = embedding_dropout
        self.hidden_dropout = hidden_dropout
        self.attention_dropout = attention_dropout
        self.attention = attention
        self.num_random_features = num_random_features
        self.pooling = pooling
        self.hop_length = hop_length
        check_attention(attention, num_random_features)
        super().__init__(**kwargs)

    @property
    def num_patches(self) -> int:
        """Number of patches of a spectrogram; with the class token there is one more token."""
        return (self.num_mel_bins // self.patch_size[0]) * (self.num_frames // self.patch_size[1])


class SpectrogramViTEmbeddings(nn.Module):
    """Embedding of a spectrogram `(batch, 1, num_mel_bins, num_frames)` as `(batch, 1 + patches, hidden_size)`."""

    def __init__(self, config: SpectrogramViTConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.projection = nn.Linear(math.prod(config.patch_size), config.hidden_size)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.positions = nn.Parameter(torch.empty(1, config.num_patches + 1, config.hidden_size))
        self.dropout = nn.Dropout(config.embedding_dropout)

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        height, width = self.patch_size
        batch, _, bins, frames = input_features.shape
        patches = input_features.reshape(batch, bins // height, height, frames // width, width)
        patches = patches.transpose(2, 3).reshape(batch, -1, height * width)  # row by row, as in the paper
        tokens = torch.cat((self.class_token.expand(batch, -1, -1), self.projection(patches)), dim=1)
        return self.dropout(tokens + self.positions)


class SpectrogramViTAttention(nn.Module):
    """Multi-head attention whose width of heads is independent of the width of tokens."""

    def __init__(self, config: SpectrogramViTConfig) -> None:
        super().__init__()
        # again, because from_pretrained(..., attention=...) sets the field afterwards
        check_attention(config.attention, config.num_random_features)
        self.config = config
        self.is_causal = False
        self.scaling = config.head_dim**-0.5
        inner = config.num_attention_heads * config.head_dim
        self.qkv = nn.Linear(config.hidden_size, 3 * inner, bias=False)
        self.projection = nn.Linear(inner, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout)
        if config.attention == "performer":
            features = config.num_random_features or default_num_features(config.head_dim)
            self.register_buffer("random_features", torch.empty(features, config.head_dim))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = hidden_states.shape
        query, key, value = (
            part.view(batch, tokens, self.config.num_attention_heads, self.config.head_dim).transpose(1, 2)
            for part in self.qkv(hidden_states).chunk(3, dim=-1)
        )  # each (batch, heads, tokens, head_dim)
        context = self.attend(query, key, value)  # (batch, tokens, heads, head_dim)
        return self.dropout(self.projection(context.reshape(batch, tokens, -1)))

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        if self.config.attention == "performer":
            return performer_attention(query, key, value, self.random_features, self.scaling)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        dropout = self.config.attention_dropout if self.training else 0.0
        return attend(self, query, key, value, None, dropout=dropout, scaling=self.scaling)[0]


class SpectrogramViTLayer(GradientCheckpointingLayer):
    """Pre-norm block: attention and MLP, each added to its input."""

    def __init__(self, config: SpectrogramViTConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.attention = SpectrogramViTAttention(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size)
        self.mlp = nn.Sequential(
            nn.Linear(config.hidden_size, config.intermediate_size),
            nn.GELU(),
            nn.Dropout(config.hidden_dropout),
            nn.Linear(config.intermediate_size, config.hidden_size),
            nn.Dropout(config.hidden_dropout),
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = hidden_states + self.attention(self.attention_norm(hidden_states))
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


class SpectrogramViTForAudioClassification(PreTrainedModel):
    """Vision transformer on patches of a mel spectrogram, trained from scratch.

    Source: D. Pak, "Emotion Classification using Various Transformer Architectures" (2022). Same arithmetic as
    vit-pytorch 0.33.2 (May 2022), which the paper used: heads wider than `hidden_size / heads` (16 of 64 on 200),
    pre-norm blocks, a layer norm in the head, a class token and learnt positions. Takes spectrograms
    `(batch, 1, num_mel_bins, num_frames)` and returns logits `(batch, num_labels)`. With six labels and patches
    (32, 30), (16, 69), (8, 23): 4,906,906, 4,934,506 and 4,790,506 parameters.
    """

    config_class = SpectrogramViTConfig
    base_model_prefix = "layers"
    main_input_name = "input_features"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ("SpectrogramViTLayer",)

    def __init__(self, config: SpectrogramViTConfig) -> None:
        super().__init__(config)
        self.embeddings = SpectrogramViTEmbeddings(config)
        self.layers = nn.ModuleList(SpectrogramViTLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # torch's initialisation of layers and standard normal tokens, as vit-pytorch: others would be another model
        if isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                bound = 1 / math.sqrt(module.in_features)
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, SpectrogramViTEmbeddings):
            init.normal_(module.class_token)
            init.normal_(module.positions)
        elif isinstance(module, SpectrogramViTAttention) and self.config.attention == "performer":
            init.copy_(module.random_features, orthogonal_gaussian(*module.random_features.shape))

    def forward(
        self, input_features: torch.Tensor, labels: torch.Tensor | None = None, **kwargs
    ) -> SequenceClassifierOutput:
        """Return `logits` `(batch, num_labels)`, and `loss` where labels are given.

        Args:
            input_features: mel spectrograms `(batch, 1, num_mel_bins, num_frames)`.
            labels: label index of each clip, `(batch,)`.
            kwargs: `num_items_in_batch` from Trainer, by which the loss is divided under gradient accumulation.

        Raises:
            ValueError: for spectrograms of another shape.
        """
        expected = (1, self.config.num_mel_bins, self.config.num_frames)
        if tuple(input_features.shape[1:]) != expected:
            raise ValueError(
                f"expected input_features of shape (batch, {expected[0]}, {expected[1]}, {expected[2]}), found "
                f"{tuple(input_features.shape)}; use the feature extractor that is saved with this model."
            )
        hidden_states = self.embeddings(input_features)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        tokens = hidden_states if self.config.pooling == "mean" else hidden_states[:, :1]
        logits = self.classifier(self.norm(tokens).mean(dim=1))  # (batch, num_labels)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention by matrix products: output `(batch, tokens, heads, head_dim)` and weights."""
    weights = torch.softmax(query @ key.transpose(2, 3) * scaling, dim=-1)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2), weights
