"""Fine-tune an encoder as transformers' example of audio classification does, and print the seconds of a step as JSON.

python library_example.py facebook/wav2vec2-base clips/ --steps 5

The parts of `examples/pytorch/audio-classification/run_audio_classification.py` that cost time: a transform of the
dataset that decodes and extracts each clip at every use, by the checkpoint's own feature extractor as it comes (that
of Whisper pads to 30 s); and a Trainer with its defaults, 32-bit floats among them. soundfile decodes and torchaudio
resamples, where the example needs torchcodec and FFmpeg. Names of clips are VIVAE's.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import soundfile
import torch
from datasets import Dataset
from torchaudio.functional import resample
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class StepEnds(TrainerCallback):
    """Callback that records when optimizer steps end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *args, **kwargs) -> None:
        self.times.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--warm_up", type=int, default=2, help="Steps before the measured ones.")
    parser.add_argument("--steps", type=int, default=5, help="Measured steps.")
    arguments = parser.parse_args()
    files = sorted(arguments.folder.rglob("*.wav"))
    names = [file.name.split("_")[1] for file in files]
    labels = sorted(set(names))
    extractor = AutoFeatureExtractor.from_pretrained(arguments.checkpoint)
    input_name = extractor.model_input_names[0]

    def transform(batch: dict) -> dict:
        waves = []
        for file in batch["file"]:
            samples, rate = soundfile.read(file, dtype="float32")
            waves.append(resample(torch.from_numpy(samples), rate, extractor.sampling_rate).numpy())
        inputs = extractor(waves, sampling_rate=extractor.sampling_rate)
        return {input_name: inputs.get(input_name), "labels": list(batch["label"])}

    dataset = Dataset.from_dict({"file": list(map(str, files)), "label": [labels.index(name) for name in names]})
    dataset.set_transform(transform)
    model = AutoModelForAudioClassification.from_pretrained(
        arguments.checkpoint, num_labels=len(labels), ignore_mismatched_sizes=True
    )
    if hasattr(model, "freeze_feature_encoder"):  # the example's default; Whisper has none
        model.freeze_feature_encoder()
    ends = StepEnds()
    with tempfile.TemporaryDirectory() as folder:
        training = TrainingArguments(
            folder, per_device_train_batch_size=arguments.batch_size, learning_rate=3e-5,
            max_steps=arguments.warm_up + arguments.steps, save_strategy="no", logging_strategy="no", report_to="none",
            remove_unused_columns=False, disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model, training, train_dataset=dataset, processing_class=extractor, callbacks=[ends])
        trainer.train()
    seconds = (ends.times[-1] - ends.times[arguments.warm_up - 1]) / arguments.steps
    print(json.dumps({"step_seconds": seconds}))


if __name__ == "__main__":
    main()
