"""Runs of `recipes/train.py` in this process, on the tiny corpus, and of `recipes/push.py` in another."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from forks import run_forked
from loopback_hub.server import WRITE_TOKEN, HubServer
from tiny import CONFIGS

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "recipes" / "train.py"
# reads a list of command lines, and runs the script with each: what it printed, or its error
PUSH = """
import contextlib, importlib.util, io, json, os, sys
spec = importlib.util.spec_from_file_location("push", sys.argv[1])
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
answers = []
for argv in json.load(sys.stdin):
    if isinstance(argv, dict):
        os.environ |= argv
        continue
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            script.main(argv)
        answers.append(printed.getvalue())
    except ValueError as error:
        answers.append("error: " + str(error))
print(json.dumps(answers))
"""


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


def encoder_flags(corpus: Path, folder: Path, output: Path, *more: str) -> list[str]:
    """The same of an encoder behind our head, by the recipe of all such, with validation clips that select."""
    argv = flags(corpus, output)
    for flag in ("--model", "--model_config", "--learning_rate"):
        place = argv.index(flag)
        del argv[place : place + 2]
    return [*argv, "--model", f"encoder:{folder}", "--select_on", "validation", *more]


def run(argv: list[str]) -> dict[str, Any]:
    """The content of `results.json` after a run in this process."""
    from hf_vivae.training.recipes import parse_run
    from hf_vivae.training.run import train

    return train(*parse_run(argv, ROOT / "recipes"))[0]


def script(path: Path) -> Any:
    """A recipe as a module; recipes are no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def push(hub: HubServer, argvs: list, token: str | None = WRITE_TOKEN) -> list[str]:
    """Return the output of the script for each command line, in one new process; a dictionary sets its variables."""
    done = run_forked(
        [ROOT / "recipes" / "push.py"], code=PUSH, input=json.dumps(argvs), env=hub.environment(hub.home, token)
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
