"""Export of a checkpoint to ONNX, from sound to probabilities, which onnxruntime runs without torch."""

import json
import logging
import re
import warnings
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ..files import OUTPUT_REMEDY, atomic_file, check_place
from ..validation import UserError
from .onnx_graph import SoundToScores
from .scorer import Scorer

MODEL, INT8, ABOUT = "model.onnx", "model.int8.onnx", "model.json"
KEYS = {"labels", "sampling_rate"}  # of model.json
PART = re.compile(r"\.\d+\.model\.(onnx|int8\.onnx|json)")  # a leftover of a killed export, see `atomic_file`
TOLERANCE = 1e-4
TRACED_SECONDS = 1.0


def export_onnx(scorer: Scorer, folder: Path, int8: bool = True) -> float:
    """Write a checkpoint as `model.onnx` and `model.json`, and check that its probabilities are those of torch.

    Batch size and length are dynamic: clips of a batch have one length, and a model of a fixed length cuts and pads.

    Args:
        scorer: a checkpoint.
        folder: is made; files of an earlier export in it are replaced, all at the end.
        int8: also write `model.int8.onnx` with 8-bit weights, which are smaller and less exact.

    Returns:
        The largest difference of any probability between torch and onnxruntime, on noise of several lengths.

    Raises:
        UserError: for checkpoints that cannot be exported, where the two differ by more than 1e-4, and as
            `check_folder`.
    """
    check_folder(folder)
    model = SoundToScores(scorer.model.cpu(), scorer.extractor).eval()
    traced = torch.rand(2, round(TRACED_SECONDS * scorer.sampling_rate)) - 0.5
    with (
        atomic_file(folder / MODEL, OUTPUT_REMEDY) as graph,
        atomic_file(folder / INT8, OUTPUT_REMEDY) if int8 else nullcontext() as small,
        atomic_file(folder / ABOUT, OUTPUT_REMEDY) as about,
    ):
        _to_graph(model, traced).save(graph)
        difference = _largest_difference(model, graph, scorer.sampling_rate)
        if not difference <= TOLERANCE:
            raise UserError(
                "expected the same probabilities from onnxruntime as from torch, found a difference of "
                f"{difference:.2g}; report it with the checkpoint's configuration."
            )
        if small:
            _quantize(graph, small)
        content = {"labels": scorer.labels, "sampling_rate": scorer.sampling_rate}
        about.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if not small:
        (folder / INT8).unlink(missing_ok=True)  # of an earlier export
    return difference


def check_folder(folder: Path) -> None:
    """Make the folder of an export, and refuse one with anything but an earlier export.

    Raises:
        UserError: with the name of another file.
        DiskError: where nothing can be written there.
    """
    check_place(folder / ABOUT)
    files = {file.name for file in folder.iterdir() if not PART.fullmatch(file.name)}
    foreign = files - {MODEL, INT8, ABOUT} or (set() if _is_exported(folder / ABOUT) else files)
    if foreign:
        raise UserError(
            f"expected a new folder, or one that hf-vivae export has written, found {folder} with {min(foreign)} of "
            "something else; give another folder."
        )


def _is_exported(file: Path) -> bool:
    """Return whether a file is the `model.json` of an export."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # missing, or not JSON
        return False
    return isinstance(content, dict) and content.keys() == KEYS


def _to_graph(model: SoundToScores, traced: torch.Tensor) -> torch.onnx.ONNXProgram:
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, about its treespecs
        try:
            return torch.onnx.export(
                model, (traced,), dynamo=True, input_names=["samples"], output_names=["probabilities"],
                dynamic_shapes={"samples": dynamic}, verbose=False,
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
        (probabilities,) = session.run(None, {"samples": samples.numpy()})
        largest = max(largest, float(np.abs(probabilities - expected).max()))
    return largest


def _quantize(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice on fixed shapes, which these graphs do not have
    try:
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    finally:
        logging.disable(level)


MEGA = 1e6


def run_export(checkpoint: str, folder: Path, *, int8: bool = True, revision: str | None = None) -> int:
    """Write a checkpoint as ONNX, print its files, and return the exit code."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"expected {', '.join(missing)}, which hf-vivae export needs, found none; pip install 'hf_vivae[export]'."
        )
    check_folder(folder)
    difference = export_onnx(Scorer(checkpoint, revision, device="cpu"), folder, int8)
    for file in sorted(folder.glob("model.*onnx")):
        print(f"{file}  {file.stat().st_size / MEGA:.1f} MB")
    print(f"probabilities differ from those of torch by {difference:.1g} at most, on clips of noise")
    return 0
