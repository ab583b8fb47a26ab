"""Scores as text."""

import math
from pathlib import Path
from typing import Any


def format_results(results: dict[str, Any]) -> str:
    """The scores of a run for a terminal, chance below them; each line says which clips they are from.

    Args:
        results: content of a run's `results.json`.
    """
    data = results["data"]
    title = (
        f"{Path(results['model']).name} on {data} clips, {results['protocol']}, {results['task']}, "
        f"recipe {results['recipe']}"
    )
    if "folds" in results:
        title += f" ({len(results['folds'])} of {results['of_folds']} folds, pooled)"
    width = len(f"validation ({data})")
    lines = [title, f"{'':{width}}{'clips':>7}{'accuracy':>10}{'UAR':>8}{'macro F1':>10}{'macro AUC':>11}{'loss':>8}"]
    for part in ("train", "validation", "test"):
        scores = results[part]
        auc = math.nan if scores["macro_auc"] is None else scores["macro_auc"]
        lines.append(
            f"{f'{part} ({data})':{width}}{scores['n']:7d}{scores['accuracy']:10.1%}{scores['uar']:8.1%}"
            f"{scores['macro_f1']:10.1%}{auc:11.3f}{scores['loss']:8.3f}"
        )
    labels = len(results["labels"])
    chance = f"{1 / labels:10.1%}{1 / labels:8.1%}{'':10}{0.5:11.3f}{math.log(labels):8.3f}"
    lines.append(f"{'chance':{width}}{'':7}{chance}")
    lines += [f"note on {part} ({data}): {note}" for part in ("validation", "test") for note in results[part]["notes"]]
    return "\n".join(lines)
