"""What `hf-vivae explain` does."""

from pathlib import Path

import numpy as np

from ..disk import check_new, whole_file
from ..validation import UserError
from .explain import Occlusion, Saliency, occlude, trace_back
from .explain_figure import save_occlusion_figure, save_saliency_figure
from .scorer import Scorer


def run_explain(
    checkpoint: str,
    clip: Path,
    output: Path,
    method: str,
    label: str | None,
    revision: str | None,
    device: str | None,
) -> int:
    """Write an explanation as a picture or as arrays; the exit code."""
    if output.suffix not in (".png", ".npz"):
        raise UserError(f"expected --output as x.png or x.npz, found {output.name}; give one of them.")
    check_new(output)
    scorer = Scorer(checkpoint, revision, device)
    found = occlude(scorer, str(clip), label) if method == "occlusion" else trace_back(scorer, str(clip), label)
    with whole_file(output) as part:
        if output.suffix == ".npz":
            np.savez(part, **vars(found))
        else:
            _draw(found, scorer, clip, part)
    print(f"{found.label} {found.probability:.0%}: {output}")
    return 0


def _draw(found: Occlusion | Saliency, scorer: Scorer, clip: Path, output: Path) -> None:
    if isinstance(found, Saliency):
        save_saliency_figure(found, output)
    else:
        save_occlusion_figure(found, scorer.hear(str(clip)), scorer.sampling_rate, output)
