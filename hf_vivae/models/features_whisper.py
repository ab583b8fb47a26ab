"""Whisper's log-mel features as long as the clips, with a mask of the frames that hold them.

The library's are as long as the longest clip that the network was made for, and silent behind the clip.
"""

from transformers import BatchFeature, WhisperFeatureExtractor


class MaskedWhisperFeatureExtractor(WhisperFeatureExtractor):
    """The library's extractor, which returns `attention_mask` and cuts all to the longest clip of the batch.

    `pipeline` never asks for the mask, and its `return_attention_mask` in the configuration has no effect. A caller
    who declines it gets what the library gives. Features are computed with the padding, so that those of a clip do
    not depend on the batch.

    Args:
        cut_to_clips: false leaves the padding up to `chunk_length` where it is.
        kwargs: the library's.
    """

    def __init__(self, cut_to_clips: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.cut_to_clips = cut_to_clips

    def __call__(self, raw_speech, *args, return_attention_mask: bool | None = True, **kwargs) -> BatchFeature:
        """`input_features` `(batch, mel bins, frames)` and `attention_mask` `(batch, frames)`."""
        features = super().__call__(raw_speech, *args, return_attention_mask=return_attention_mask, **kwargs)
        if return_attention_mask and self.cut_to_clips:
            longest = int(features["attention_mask"].sum(-1).max())
            features["input_features"] = features["input_features"][..., :longest]
            features["attention_mask"] = features["attention_mask"][..., :longest]
        return features
