"""The audio column of a dataset as files, without the decoder of `datasets`."""

from dataclasses import dataclass
from typing import Any

from datasets import Audio


@dataclass
class StoredAudio(Audio):
    """Files as they are, without torchcodec, which `Audio` asks for even where it only passes a path on."""

    decode: bool = False

    def encode_example(self, value: str | dict[str, Any]) -> dict[str, Any]:
        return {"bytes": None, "path": value} if isinstance(value, str) else value
