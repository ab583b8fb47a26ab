"""Label a clip with the model of `hf-vivae export CHECKPOINT onnx`: python docs/onnx_example.py onnx clip.wav"""

import json
import sys
from pathlib import Path

import onnxruntime
import soundfile

folder, clip = map(Path, sys.argv[1:])
about = json.loads((folder / "model.json").read_text())
samples, rate = soundfile.read(clip, dtype="float32", always_2d=True)  # (samples, channels)
if rate != about["sampling_rate"]:
    sys.exit(f"expected {about['sampling_rate']} Hz, found {rate}; resample the clip first.")
model = onnxruntime.InferenceSession(folder / "model.onnx")
(probabilities,) = model.run(None, {"samples": samples.mean(axis=1)[None]})  # (1, samples) -> (1, labels)
for probability, label in sorted(zip(probabilities[0], about["labels"], strict=True), reverse=True):
    print(f"{probability:5.1%}  {label}")
