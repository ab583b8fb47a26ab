"""Whisper's log-mel features with a mask of the frames that hold the clip, which the library leaves out."""

from transformers import BatchFeature, WhisperFeatureExtractor


class MaskedWhisperFeatureExtractor(WhisperFeatureExtractor):
    """The library's extractor, whose `attention_mask` `(batch, frames)` is returned unless a caller declines it.

    `pipeline` never asks for the mask, and its `return_attention_mask` in the configuration has no effect. All clips
    are padded up to `chunk_length`, so that `pipeline` can batch them and the features of one do not depend on others.

    Args:
        cut_to_clips: whether the model hears the clips alone, so that nothing else has to be kept of them.
        kwargs: the library's.
    """

    def __init__(self, cut_to_clips: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.cut_to_clips = cut_to_clips

    def __call__(self, raw_speech, *args, return_attention_mask: bool | None = True, **kwargs) -> BatchFeature:
        """`input_features` `(batch, mel bins, frames)` and `attention_mask` `(batch, frames)`."""
        return super().__call__(raw_speech, *args, return_attention_mask=return_attention_mask, **kwargs)
