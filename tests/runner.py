"""Runs of `recipes/train.py` in this process, on the tiny corpus."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from tiny import CONFIGS

ROOT = Path(__file__).parents[1]
TRAIN = ROOT / "recipes" / "train.py"


def flags(corpus: Path, output: Path, name: str = "vit-32-30", *more: str) -> list[str]:
    """Command line of a short run of a tiny model: speaker S01 tests, S02 validates, S03 and S04 train."""
    common = {
        "--model": name,
        "--data": "vivae",
        "--data_dir": str(corpus),
        "--allow_partial": "true",
        "--protocol": "leave-one-speaker-out",
        "--folds": "0",
        "--model_config": json.dumps(CONFIGS[name]),
        "--per_device_train_batch_size": "8",
        "--num_train_epochs": "2",
        "--learning_rate": "1e-3",
        "--output_dir": str(output),
        "--disable_tqdm": "true",
    }
    scratch = ["--from_scratch"] if name in ("vit-base", "wav2vec2") else []
    return [part for pair in common.items() for part in pair] + scratch + list(more)


def run(argv: list[str]) -> dict[str, Any]:
    """The content of `results.json` after a run in this process."""
    from hf_vivae.parsing import parse_run
    from hf_vivae.training import train

    return train(*parse_run(argv, ROOT / "recipes"))[0]


def script(path: Path) -> Any:
    """A recipe as a module; recipes are no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
