"""Image ViT of timm on a mel spectrogram.

timm builds the network; this class turns spectrograms into images, and adds loss, labels, saving and loading.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput


class TimmViTConfig(PreTrainedConfig):
    """Configuration of `TimmViTForAudioClassification`.

    Args:
        architecture: name of a timm model for square colour images.
        architecture_config: further arguments of `timm.create_model`, such as `{"depth": 2}`.
        num_mel_bins: height of the spectrogram.
        num_frames: width of the spectrogram.
        pad_clip: cut or zero-pad clips to `num_frames`; else take the middle of the whole clip's spectrogram.
        image_scaling: `min_max` makes a clip's quietest value black and its loudest white; `wrap` repeats the
            conversion of the paper's notebook, which is meant for values from 0 to 1 and makes noise of decibels.
        image_size: side of the image that the network takes, in pixels.
        resize_size: length to which the spectrogram's shorter side is resized before the middle of `image_size` is
            cut out, as in the paper's notebook; None resizes the whole spectrogram to the image instead.
        kwargs: arguments of `PreTrainedConfig`, such as `id2label`.

    Raises:
        ValueError: for another image_scaling, and for a resize_size below image_size.
    """

    model_type = "vivae_timm_vit"

    def __init__(
        self,
        architecture: str = "vit_base_patch16_224",
        architecture_config: dict | None = None,
        num_mel_bins: int = 64,
        num_frames: int = 690,
        pad_clip: bool = True,
        image_scaling: Literal["min_max", "wrap"] = "min_max",
        image_size: int = 224,
        resize_size: int | None = None,
        **kwargs,
    ) -> None:
        self.architecture = architecture
        self.architecture_config = dict(architecture_config or {})
        self.num_mel_bins = num_mel_bins
        self.num_frames = num_frames
        self.pad_clip = pad_clip
        self.image_scaling = image_scaling
        self.image_size = image_size
        self.resize_size = resize_size
        super().__init__(**kwargs)
        if image_scaling not in ("min_max", "wrap"):
            raise ValueError(f"image_scaling must be min_max or wrap, found {image_scaling!r}; use one of the two.")
        if resize_size is not None and resize_size < image_size:
            raise ValueError(
                f"resize_size must be at least image_size {image_size}, found {resize_size}; "
                "use None to resize the whole spectrogram."
            )


class TimmViTForAudioClassification(PreTrainedModel):
    """Vision transformer of timm, pretrained on images, for mel spectrograms: the ViT-Base of the paper.

    Source: D. Pak, "Emotion Classification using Various Transformer Architectures" (2022); network: Dosovitskiy et
    al., "An Image is Worth 16x16 Words", ICLR 2021. Takes spectrograms `(batch, 1, num_mel_bins, num_frames)` and
    returns logits `(batch, num_labels)`; 85,803,270 parameters as ViT-Base with six labels.
    """

    config_class = TimmViTConfig
    base_model_prefix = "backbone"
    main_input_name = "input_features"
    supports_gradient_checkpointing = True
    _supports_sdpa = True  # timm's attention calls torch's fused kernel

    def __init__(self, config: TimmViTConfig) -> None:
        super().__init__(config)
        import timm

        self.backbone = timm.create_model(
            config.architecture,
            num_classes=config.num_labels,
            img_size=config.image_size,
            **config.architecture_config,
        )
        self.post_init()

    @classmethod
    def from_timm(cls, folder: str | Path, config: TimmViTConfig) -> "TimmViTForAudioClassification":
        """Return the model with the weights of a timm checkpoint folder, and a new classifier."""
        import timm

        model = cls(config)
        # after construction: post_init would overwrite weights loaded before it
        pretrained = timm.create_model(
            f"local-dir:{folder}",
            pretrained=True,
            num_classes=config.num_labels,
            img_size=config.image_size,
            **config.architecture_config,
        )
        model.backbone.load_state_dict(pretrained.state_dict())
        return model

    def _init_weights(self, module: nn.Module) -> None:
        # timm initialises its own modules; a classifier that is missing in a checkpoint starts at zero, as timm's
        if module is getattr(self.backbone, "head", None) and isinstance(module, nn.Linear):
            init.zeros_(module.weight)
            init.zeros_(module.bias)

    def _set_gradient_checkpointing(self, enable: bool = True, **kwargs) -> None:
        self.backbone.set_grad_checkpointing(enable)

    def to_image(self, input_features: torch.Tensor) -> torch.Tensor:
        """Return spectrograms `(batch, 1, bins, frames)` as images `(batch, 3, image_size, image_size)` in [-1, 1].

        Mean and standard deviation are 0.5, as in the pretraining of the network.
        """
        pixels = wrap_to_bytes(input_features) if self.config.image_scaling == "wrap" else min_max(input_features)
        size, resize = self.config.image_size, self.config.resize_size
        if resize is None:
            target = (size, size)
        else:
            scale = resize / min(self.config.num_mel_bins, self.config.num_frames)
            target = (int(self.config.num_mel_bins * scale), int(self.config.num_frames * scale))
        pixels = nn.functional.interpolate(pixels, target, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (target[0] - size) // 2, (target[1] - size) // 2
        pixels = pixels[:, :, top : top + size, left : left + size]
        return ((pixels - 0.5) / 0.5).expand(-1, 3, -1, -1)

    def forward(
        self, input_features: torch.Tensor, labels: torch.Tensor | None = None, **kwargs
    ) -> SequenceClassifierOutput:
        """Return `logits` `(batch, num_labels)`, and `loss` where labels are given.

        Args:
            input_features: mel spectrograms `(batch, 1, num_mel_bins, num_frames)`.
            labels: label index of each clip, `(batch,)`.
            kwargs: `num_items_in_batch` from Trainer, by which the loss is divided under gradient accumulation.
        """
        logits = self.backbone(self.to_image(input_features))  # (batch, num_labels)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def min_max(input_features: torch.Tensor) -> torch.Tensor:
    """Return spectrograms `(batch, 1, bins, frames)` in any unit, each scaled to [0, 1]."""
    loudest = input_features.amax(dim=(1, 2, 3), keepdim=True)
    quietest = input_features.amin(dim=(1, 2, 3), keepdim=True)
    return (input_features - quietest) / (loudest - quietest).clamp(min=1e-6)


def wrap_to_bytes(input_features: torch.Tensor) -> torch.Tensor:
    """Return values times 255, truncated, modulo 256, in [0, 1], as torchvision's `ToPILImage` converts floats.

    Similar decibels become unrelated values: -37.2, -37.3, -37.25 and 10.0 dB become 242, 217, 230 and 246 of 255.
    """
    return (input_features * 255).trunc().remainder(256) / 255
