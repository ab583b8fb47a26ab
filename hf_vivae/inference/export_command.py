"""What `hf-vivae export` does."""

from importlib.util import find_spec
from pathlib import Path

from ..validation import UserError
from .export import check_folder, export_onnx
from .scorer import Scorer

MEGA = 1e6


def run_export(checkpoint: str, folder: Path, int8: bool, revision: str | None) -> int:
    """Write a checkpoint as ONNX, and say what was written; the exit code."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"expected {', '.join(missing)}, which hf-vivae export needs, found none; pip install 'hf_vivae[export]'."
        )
    check_folder(folder)
    exported = export_onnx(Scorer(checkpoint, revision, device="cpu"), folder, int8)
    for file in sorted(exported.folder.glob("model.*onnx")):
        print(f"{file}  {file.stat().st_size / MEGA:.1f} MB")
    print(f"probabilities differ from those of torch by {exported.difference:.1g} at most, on clips of noise")
    return 0
