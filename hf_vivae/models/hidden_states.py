"""Hidden states of all layers of an encoder of transformers, and a mask of the clip's frames.

Masked padding has no effect on the frames of a clip, in any encoder that has frames: a clip in a padded batch has the
same hidden states as alone.
"""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask

UNMASKABLE = ("audio-spectrogram-transformer",)  # its tokens are patches of the spectrogram, not frames


def bare_encoder(model: PreTrainedModel) -> PreTrainedModel:
    """Return the encoder of an audio classifier, without its head."""
    return model.encoder if hasattr(model, "encoder") else model.base_model


def hidden_states(
    encoder: PreTrainedModel,
    attention_mask: torch.Tensor | None = None,
    whole_window: bool = False,
    **inputs: torch.Tensor,
) -> tuple[tuple[torch.Tensor, ...], torch.Tensor | None]:
    """Return the hidden states of all layers, and a mask of the clip's frames.

    Args:
        encoder: encoder of an audio classifier of transformers, after `padding.mask_padding`.
        attention_mask: 1 where a sample (frame) belongs to the clip, `(batch, samples or frames)`.
        whole_window: let Whisper encode the padding too, as in its pretraining, and mask the result only.
        inputs: `input_values` or `input_features`, as the encoder's feature extractor returns them.

    Returns:
        The input of the first layer and the output of each, `(batch, frames, width)`, the last after the norm that
        ends some encoders; and the mask `(batch, frames)`, 1 for frames of the clip, None where all frames are.
    """
    inputs = {name: values.to(encoder.dtype) for name, values in inputs.items()}  # extractors give single precision
    if encoder.config.model_type == "whisper" and attention_mask is not None and not whole_window:
        return _whisper_states(encoder, attention_mask=attention_mask, **inputs)
    masks = {} if attention_mask is None else {"attention_mask": attention_mask}
    output = encoder(**inputs, **masks, output_hidden_states=True)
    states = output.hidden_states
    if output.last_hidden_state.shape == states[-1].shape:  # not in SEW, whose output has other frames
        # transformers lists the input of the norm that ends HuBERT large, WavLM large, conformers and AST
        states = (*states[:-1], output.last_hidden_state)
    return states, None if attention_mask is None else _frame_mask(encoder, attention_mask, states[0].shape[1])


def _whisper_states(
    encoder: PreTrainedModel, input_features: torch.Tensor, attention_mask: torch.Tensor
) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """Encode spectrograms `(batch, mel bins, frames)` of any length, which Whisper's own forward refuses.

    The positions are the first of its table, and no layer is dropped at random.
    """
    if not torch.compiler.is_exporting():  # where all clips have one length
        longest = int(attention_mask.sum(dim=1).max())
        input_features, attention_mask = input_features[..., :longest], attention_mask[:, :longest]
    own = attention_mask[:, None].to(input_features.dtype)  # 1 for frames of the clip, (batch, 1, mel frames)
    features = nn.functional.gelu(encoder.conv1(input_features * own)) * own
    features = nn.functional.gelu(encoder.conv2(features)).transpose(1, 2)  # (batch, frames, width)
    states = [features + encoder.embed_positions.weight[: features.shape[1]]]
    mask = attention_mask[:, ::2]
    attended = create_bidirectional_mask(encoder.config, states[0], mask)
    hidden = nn.functional.dropout(states[0], p=encoder.dropout, training=encoder.training)
    for layer in encoder.layers:
        hidden = layer(hidden, attended)
        states.append(hidden)
    states[-1] = encoder.layer_norm(hidden)
    return tuple(states), mask


def _frame_mask(encoder: PreTrainedModel, attention_mask: torch.Tensor, frames: int) -> torch.Tensor:
    if hasattr(encoder, "_get_feature_vector_attention_mask") and attention_mask.shape[1] != frames:
        return encoder._get_feature_vector_attention_mask(frames, attention_mask)
    # the mask of w2v-BERT has one value a frame already, that of Whisper's window two
    return attention_mask[:, :: attention_mask.shape[1] // frames]
