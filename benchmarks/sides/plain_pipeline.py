"""Classify clips by transformers' plain pipeline, and print their number as JSON.

python plain_pipeline.py runs/vit clips/ --batch_size 32

Files are decoded by soundfile one after the other; the pipeline resamples them, and computes in 32-bit floats. The
checkpoint's own code is executed, as for one of the Hub, so that this package is not imported.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import soundfile
from transformers import pipeline


def decode(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Yield the samples of files of one channel, with their rate in Hz, as the pipeline takes them."""
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32")
        yield {"raw": samples, "sampling_rate": rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("clips", type=Path, help="A file, or a folder of files.")
    parser.add_argument("--batch_size", type=int, default=1)
    arguments = parser.parse_args()
    files = sorted(arguments.clips.iterdir()) if arguments.clips.is_dir() else [arguments.clips]
    classify = pipeline("audio-classification", model=arguments.checkpoint, trust_remote_code=True, top_k=None)
    scores = list(classify(decode(files), batch_size=arguments.batch_size))
    print(json.dumps({"clips": len(scores)}))


if __name__ == "__main__":
    main()
