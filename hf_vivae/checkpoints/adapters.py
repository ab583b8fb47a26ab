"""Fine-tuning of a part of a pretrained encoder: frozen layers, and LoRA adapters."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from ..models.hidden_states import bare_encoder
from ..models.wrapped import WrappedForAudioClassification
from ..validation import Arguments, UserError

if TYPE_CHECKING:
    from peft import PeftModel


FREEZE = re.compile(r"none|feature_encoder|all_but_last_(\d+)|all")
FRONT_ENDS = ("feature_extractor", "feature_projection", "conv1", "conv2", "embed_positions", "embeddings")
# parts that no hidden state depends on: several processes would wait for their gradients
UNUSED = {"wav2vec2-conformer": "pos_conv_embed", "sew": "upsample", "sew-d": "upsample"}
ADAPTER = "adapter"  # folder inside a checkpoint: next to its configuration, the library would load it by itself


@dataclass
class AdapterArguments(Arguments):
    """Arguments of `--freeze` and LoRA: the trained part of a pretrained encoder."""

    freeze: str = field(
        default="none",
        metadata={"help": "Frozen part of an encoder: none, feature_encoder, all_but_last_<layers>, or all."},
    )
    lora_rank: int = field(
        default=0,
        metadata={
            "help": "LoRA: train matrices of this rank that are added to the frozen weights of the encoder; 8 is "
            "usual, 0 is off."
        },
    )
    lora_alpha: float | None = field(
        default=None, metadata={"help": "LoRA's scale, divided by the rank; twice the rank if absent."}
    )
    lora_targets: list[str] = field(
        default_factory=list,
        metadata={"help": "Linear layers with LoRA, such as q_proj v_proj; all of each transformer layer if absent."},
    )
    lora_save: Literal["merged", "adapter"] = field(
        default="merged",
        metadata={"help": "Save whole weights, or LoRA's matrices and the head with the name of the encoder."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not FREEZE.fullmatch(self.freeze):
            raise UserError(
                f"expected --freeze none, feature_encoder, all or all_but_last_<layers>, found {self.freeze!r}; give "
                "one of them, such as all_but_last_4."
            )
        if self.lora_rank < 0:
            raise UserError(f"expected --lora_rank of 0 or more, found {self.lora_rank}; 8 is usual, 0 turns it off.")
        if self.lora_alpha is not None and not self.lora_alpha > 0:
            raise UserError(f"expected --lora_alpha above 0, found {self.lora_alpha:g}; twice the rank is usual.")
        if self.lora_rank and self.freeze.startswith("all_but_last"):
            raise UserError(
                f"--lora_rank adapts every layer, found --freeze {self.freeze} with it; leave out one of the two."
            )
        if not self.lora_rank and (self.lora_targets or self.lora_alpha is not None or self.lora_save != "merged"):
            raise UserError("expected --lora_rank with other flags of LoRA, found none; 8 is usual.")


def freeze(model: PreTrainedModel, what: str) -> None:
    """Freeze a part of a model's encoder, and always the parts that this package's head does not use.

    Args:
        model: model with an encoder of the library; its head is always trained.
        what: `none`; `feature_encoder`, which turns sound into frames (convolutions, projection, patches), without
            wav2vec2's convolution of positions and the norm after it; `all_but_last_<k>`, all but the last `k` layers,
            with the norm after them; or `all`.

    Raises:
        UserError: for a model without an encoder of the library, and for more layers than it has.
    """
    if isinstance(model, WrappedForAudioClassification) and model.config.encoder.model_type in UNUSED:
        model.encoder.encoder.get_submodule(UNUSED[model.config.encoder.model_type]).requires_grad_(False)
    if what == "none":
        return
    encoder = find_encoder(model, "freeze")
    _freeze_front_end(encoder)
    if what == "feature_encoder":
        for name, module in encoder.named_children():
            if name in FRONT_ENDS:
                module.requires_grad_(False)
    else:
        encoder.requires_grad_(False)
    if count := FREEZE.fullmatch(what)[1]:
        layers = transformer_layers(encoder)
        if not 0 < int(count) <= len(layers):
            raise UserError(
                f"expected --freeze all_but_last_1 to all_but_last_{len(layers)}, found {what}; the encoder has "
                f"{len(layers)} layers."
            )
        for layer in layers[-int(count) :]:
            layer.requires_grad_(True)


def find_encoder(model: PreTrainedModel, flag: str) -> PreTrainedModel:
    """Return the encoder of a model, without its head.

    Args:
        model: classifier of the library, or one of this package that wraps an encoder of it.
        flag: name of the flag that needs the encoder, for the message.

    Raises:
        UserError: for another model.
    """
    encoder = bare_encoder(model)
    if encoder is model or not isinstance(encoder, PreTrainedModel):
        raise UserError(
            f"expected an encoder of the library with --{flag}, found {type(model).__name__}, which has none; leave "
            "it out."
        )
    return encoder


def _freeze_front_end(encoder: PreTrainedModel) -> None:
    """Freeze the convolutions of wav2vec2 and similar encoders, and stop gradients there: half of a step's time."""
    extractor = getattr(encoder, "feature_extractor", None)
    if hasattr(extractor, "_freeze_parameters"):  # its output requires no gradients then
        extractor._freeze_parameters()


def transformer_layers(encoder: PreTrainedModel) -> nn.ModuleList:
    """Return the transformer layers of an encoder, under any attribute name."""
    count = encoder.config.num_hidden_layers
    lists = (module for module in encoder.modules() if isinstance(module, nn.ModuleList) and len(module) == count)
    return max(lists, key=lambda layers: sum(weight.numel() for weight in layers.parameters()))


def add_lora(model: PreTrainedModel, arguments: AdapterArguments, source: str, folder: Path) -> "PeftModel":
    """Add low-rank matrices to the linear layers of a model's encoder, and freeze its other weights.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.

    Args:
        model: an `EncoderForAudioClassification`, changed in place; its head is trained as a whole.
        arguments: rank, scale and targets.
        source: folder or Hub id of the encoder, which the adapter names.
        folder: local folder of the encoder: an adapter keeps the digest of a folder's weights, or a Hub id's commit.

    Returns:
        The model as peft wraps it.

    Raises:
        UserError: for targets that are no names of linear layers, with those names.
    """
    from peft import LoraConfig, get_peft_model

    _freeze_front_end(model.encoder)
    inside = {module for layer in transformer_layers(model.encoder) for module in layer.modules()}
    # WavLM reads these weights without calling the layers, so that matrices added to them would have no effect
    for attention in (module for module in inside.copy() if type(module).__name__ == "WavLMAttention"):
        inside -= {attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj}
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module in inside]
    targets = arguments.lora_targets
    missing = [target for target in targets if not any(_is_target(name, [target]) for name in linear)]
    if missing:
        names = sorted({name.rpartition(".")[2] for name in linear})
        raise UserError(
            f"expected --lora_targets out of {', '.join(names)}, found {missing[0]!r}; these are the linear layers of "
            "this encoder."
        )
    config = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=2 * arguments.lora_rank if arguments.lora_alpha is None else arguments.lora_alpha,
        target_modules=[name for name in linear if not targets or _is_target(name, targets)],
        modules_to_save=["head"],
    )
    adapted = get_peft_model(model, config)
    is_folder = Path(source).is_dir()
    # peft takes it from the model, which was not loaded from one folder; absolute, so that it is found from elsewhere
    config.base_model_name_or_path = str(Path(source).resolve()) if is_folder else source
    if arguments.lora_save == "adapter":
        config.revision = weights_digest(folder) if is_folder else folder.name
    return adapted


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 of the weights of a checkpoint."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _is_target(name: str, targets: list[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def load_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Return the model with an adapter's matrices merged into its weights, and with the adapter's head.

    Args:
        model: model as it was before `add_lora`.
        folder: folder of the adapter.

    Raises:
        UserError: for an adapter without safetensors, or with a part of its weights only.
    """
    from peft import PeftModel, get_peft_model_state_dict

    file = folder / "adapter_model.safetensors"
    if not file.is_file():  # peft would read a pickle
        raise UserError(
            f"expected LoRA's matrices as {file.name} in {folder}, found none; convert them with safetensors (pickled "
            "weights are not read), or train the adapter again."
        )
    adapted = PeftModel.from_pretrained(model, folder)
    with safe_open(file, "pt") as weights:
        missing = sorted(get_peft_model_state_dict(adapted).keys() - weights.keys())
    if missing:  # peft leaves them random
        raise UserError(
            f"expected all weights of the adapter in {file}, found none of {len(missing)} (first: {missing[0]}); copy "
            "the file again, or train the adapter again."
        )
    return adapted.merge_and_unload()
