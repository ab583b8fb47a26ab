"""Feature extractor of Whisper with a mask of the clip's frames."""

from transformers import BatchFeature, WhisperFeatureExtractor


class MaskedWhisperFeatureExtractor(WhisperFeatureExtractor):
    """`WhisperFeatureExtractor` that returns an `attention_mask` by default.

    `pipeline` does not ask for the mask, and `return_attention_mask` in the configuration has no effect. All clips
    are padded to `chunk_length`, so that `pipeline` can batch them and the features of one do not depend on others.

    Args:
        cut_to_clips: the model uses the frames of the clip only, so that features can be stored without padding.
        kwargs: arguments of `WhisperFeatureExtractor`.
    """

    def __init__(self, cut_to_clips: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.cut_to_clips = cut_to_clips

    def __call__(self, raw_speech, *args, return_attention_mask: bool | None = True, **kwargs) -> BatchFeature:
        """Return `input_features` `(batch, mel bins, frames)` and `attention_mask` `(batch, frames)`."""
        return super().__call__(raw_speech, *args, return_attention_mask=return_attention_mask, **kwargs)
