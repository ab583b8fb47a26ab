"""What of a pretrained encoder is trained: all of it, its last layers, or small matrices beside its weights."""

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
# parts that no hidden state comes from, so that several processes would wait for their gradients
UNHEARD = {"wav2vec2-conformer": "pos_conv_embed", "sew": "upsample", "sew-d": "upsample"}
ADAPTER = "adapter"  # folder of a checkpoint: beside its configuration, the library would take it for its own


@dataclass
class AdaptingArguments(Arguments):
    """What of a pretrained encoder is trained."""

    freeze: str = field(
        default="none",
        metadata={"help": "Of a pretrained encoder: none, feature_encoder, all_but_last_<layers>, or all."},
    )
    lora_rank: int = field(
        default=0,
        metadata={
            "help": "Train matrices of this rank beside the weights of the encoder, and none of these (LoRA); 8 is "
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
        metadata={"help": "Keep whole weights, or LoRA's matrices and the head beside the name of the encoder."},
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
                f"--lora_rank adapts every layer, found --freeze {self.freeze} beside it; leave out one of the two."
            )
        if not self.lora_rank and (self.lora_targets or self.lora_alpha is not None or self.lora_save != "merged"):
            raise UserError("expected --lora_rank beside other flags of LoRA, found none; 8 is usual.")


def freeze(model: PreTrainedModel, what: str) -> None:
    """Keep a part of a model's encoder from training, and in any case what this package's head does not hear.

    Args:
        model: with an encoder of the library; its head is always trained.
        what: `none`; `feature_encoder`, which turns sound into frames (convolutions, projection, patches), without
            wav2vec2's convolution of positions and norm behind these; `all_but_last_<k>`, all but the last `k` layers,
            with the norm behind them; or `all`.

    Raises:
        ValueError: for a model without an encoder of the library, and for more layers than it has.
    """
    if isinstance(model, WrappedForAudioClassification) and model.config.encoder.model_type in UNHEARD:
        model.encoder.encoder.get_submodule(UNHEARD[model.config.encoder.model_type]).requires_grad_(False)
    if what == "none":
        return
    encoder = find_encoder(model, "freeze")
    _spare_front_end(encoder)
    if what == "feature_encoder":
        for name, module in encoder.named_children():
            if name in FRONT_ENDS:
                module.requires_grad_(False)
    else:
        encoder.requires_grad_(False)
    if trained := FREEZE.fullmatch(what)[1]:
        layers = transformer_layers(encoder)
        if not 0 < int(trained) <= len(layers):
            raise UserError(
                f"expected --freeze all_but_last_1 to all_but_last_{len(layers)}, found {what}; the encoder has "
                f"{len(layers)} layers."
            )
        for layer in layers[-int(trained) :]:
            layer.requires_grad_(True)


def find_encoder(model: PreTrainedModel, flag: str) -> PreTrainedModel:
    """The encoder of a model, apart from its head.

    Args:
        model: of the library, or one that holds an encoder of it.
        flag: which asks for it.

    Raises:
        ValueError: for another model.
    """
    encoder = bare_encoder(model)
    if encoder is model or not isinstance(encoder, PreTrainedModel):
        raise UserError(
            f"expected an encoder of the library beside --{flag}, found {type(model).__name__}, which has none; leave "
            "it out."
        )
    return encoder


def _spare_front_end(encoder: PreTrainedModel) -> None:
    """Freeze the convolutions of wav2vec2's kin so that gradients stop there, too: half of a step's time."""
    extractor = getattr(encoder, "feature_extractor", None)
    if hasattr(extractor, "_freeze_parameters"):  # which also keeps its output from asking for gradients
        extractor._freeze_parameters()


def transformer_layers(encoder: PreTrainedModel) -> nn.ModuleList:
    """The layers of an encoder, whatever its class calls them."""
    count = encoder.config.num_hidden_layers
    lists = (module for module in encoder.modules() if isinstance(module, nn.ModuleList) and len(module) == count)
    return max(lists, key=lambda layers: sum(weight.numel() for weight in layers.parameters()))


def add_lora(model: PreTrainedModel, arguments: AdaptingArguments, source: str, folder: Path) -> "PeftModel":
    """Put low-rank matrices beside weights of a model's encoder, in place, and freeze the rest of the encoder.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.

    Args:
        model: `EncoderForAudioClassification`, changed in place; its head is trained as a whole.
        arguments: rank, scale and targets.
        source: folder or Hub id of the encoder, which an adapter names.
        folder: where the encoder lies: a folder's adapter keeps the digest of its weights, a Hub id's the commit.

    Raises:
        ValueError: for targets that no linear layer is called, with those that there are.
    """
    from peft import LoraConfig, get_peft_model

    _spare_front_end(model.encoder)
    known = _linear_layers(model)
    chosen = [name for name in known if not arguments.lora_targets or _is_target(name, arguments.lora_targets)]
    missing = [target for target in arguments.lora_targets if not any(_is_target(name, [target]) for name in known)]
    if missing:
        there = sorted({name.rpartition(".")[2] for name in known})
        raise UserError(
            f"expected --lora_targets out of {', '.join(there)}, found {missing[0]!r}; these are the linear layers of "
            "this encoder."
        )
    config = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=2 * arguments.lora_rank if arguments.lora_alpha is None else arguments.lora_alpha,
        target_modules=chosen,
        modules_to_save=["head"],
    )
    adapted = get_peft_model(model, config)
    is_folder = Path(source).is_dir()
    # which peft takes from the model, and that was never loaded as a whole; a folder is found from elsewhere, too
    config.base_model_name_or_path = str(Path(source).resolve()) if is_folder else source
    if arguments.lora_save == "adapter":
        config.revision = weights_digest(folder) if is_folder else folder.name
    return adapted


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights of a checkpoint."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _linear_layers(model: PreTrainedModel) -> list[str]:
    layers = transformer_layers(model.encoder)
    inside = {module for layer in layers for module in layer.modules()}
    # WavLM reads these weights past the layers' own forward, where nothing beside them would be heard
    for attention in (module for module in inside.copy() if type(module).__name__ == "WavLMAttention"):
        inside -= {attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj}
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module in inside]


def _is_target(name: str, targets: list[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def load_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model with an adapter's matrices added to its weights, and the adapter's head.

    Args:
        model: as it was before `add_lora`.
        folder: of the adapter.

    Raises:
        ValueError: for an adapter without safetensors, or with a part of its weights only.
    """
    from peft import PeftModel, get_peft_model_state_dict

    file = folder / "adapter_model.safetensors"
    if not file.is_file():  # where peft would read a pickle
        raise UserError(
            f"expected LoRA's matrices as {file.name} in {folder}, found none; convert them with safetensors (pickled "
            "weights are not read), or train the adapter anew."
        )
    adapted = PeftModel.from_pretrained(model, folder)
    with safe_open(file, "pt") as weights:
        missing = sorted(get_peft_model_state_dict(adapted).keys() - weights.keys())
    if missing:  # which peft leaves random
        raise UserError(
            f"expected all weights of the adapter in {file}, found none of {len(missing)} (first: {missing[0]}); copy "
            "the file again, or train the adapter anew."
        )
    return adapted.merge_and_unload()
