"""A checkpoint as ONNX: sound in, probabilities out, run by onnxruntime without torch."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..disk import whole_file
from ..runs import write_json
from ..validation import UserError
from .scorer import Scorer
from .sound_graph import SoundToScores

MODEL, INT8, ABOUT = "model.onnx", "model.int8.onnx", "model.json"
TOLERANCE = 1e-4
TRACED_SECONDS = 1.0


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        folder: with `model.onnx`, `model.json` and perhaps `model.int8.onnx`.
        difference: largest of any probability between torch and onnxruntime, on clips of noise of several lengths.
    """

    folder: Path
    difference: float


def export_onnx(scorer: Scorer, folder: Path, int8: bool = True) -> Exported:
    """Write a checkpoint as ONNX, and check that it gives what torch gives.

    Batch and length are free: clips of a batch have one length, and a model of a fixed length cuts and pads by itself.

    Args:
        scorer: a checkpoint.
        folder: is made.
        int8: also with weights of 8 bits, which are smaller and less exact.

    Raises:
        ValueError: for checkpoints that no graph can hold, and where the two differ by more than 1e-4.
    """
    model = SoundToScores(scorer.model.cpu(), scorer.extractor).eval()
    traced = torch.rand(2, round(TRACED_SECONDS * scorer.sampling_rate)) - 0.5
    with whole_file(folder / MODEL) as part:
        _to_graph(model, traced).save(part)
        difference = _largest_difference(model, part, scorer.sampling_rate)
        if not difference <= TOLERANCE:
            raise UserError(
                "expected the same probabilities from onnxruntime as from torch, found a difference of "
                f"{difference:.2g}; report it with the checkpoint's configuration."
            )
    write_json(folder / ABOUT, {"labels": scorer.labels, "sampling_rate": scorer.sampling_rate})
    if int8:
        with whole_file(folder / INT8) as part:
            _quantize(folder / MODEL, part)
    return Exported(folder, difference)


def _to_graph(model: SoundToScores, traced: torch.Tensor) -> torch.onnx.ONNXProgram:
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, of its own treespecs
        try:
            return torch.onnx.export(
                model, (traced,), dynamo=True, input_names=["samples"], output_names=["probabilities"],
                dynamic_shapes={"samples": free}, verbose=False,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            config = model.model.config
            kind = getattr(config, "encoder", config).model_type
            raise UserError(
                f"expected a model that torch can export, found {kind}, which it cannot; use hf-vivae predict, or "
                "train another encoder."
            ) from error


def _largest_difference(model: SoundToScores, file: Path, rate: int) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    largest = 0.0
    for clips, seconds in ((1, 0.3), (2, 1.0), (3, 2.51)):
        samples = torch.rand(clips, round(seconds * rate), generator=torch.Generator().manual_seed(clips)) - 0.5
        with torch.inference_mode():
            expected = model(samples).numpy()
        (found,) = session.run(None, {"samples": samples.numpy()})
        largest = max(largest, float(np.abs(found - expected).max()))
    return largest


def _quantize(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice on fixed shapes, which these graphs do not have
    try:
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    finally:
        logging.disable(before)
