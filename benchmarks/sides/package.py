"""Measure a part of this package in this process, and print its figures as JSON.

python package.py train '{"clips": "clips/", "output": "run/", "epochs": 2}'

Imports stand in the functions: `first_step` measures them too, and elsewhere `hf_vivae` comes before torch, as in the
recipes.
"""

import json
import os
import runpy
import subprocess
import sys
import threading
import time
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_vivae.training.trainer import VivaeTrainer

BUSY_SECONDS = 60  # after which steps next to another process are no longer measured
WARM_UP = 2  # steps before the measured ones, which allocate memory and choose kernels


def train(clips: str, output: str, epochs: int) -> dict[str, Any]:
    """Train `vit-32-30` in bfloat16; return the seconds and the GFLOP of an epoch after the first, with scoring."""
    trainer = build_trainer(clips, output, f"--model vit-32-30 --bf16 --num_train_epochs {epochs}", scored=True)
    starts, ends = [], []
    clock = time.perf_counter
    fit(trainer, on_epoch_begin=lambda: starts.append(clock()), on_evaluate=lambda: ends.append(clock()))
    trained, scored = len(trainer.train_dataset), len(trainer.eval_dataset)
    of_clip = count_operations(trainer, batches=1)
    return {
        "epoch_seconds": median(end - start for start, end in list(zip(starts, ends, strict=True))[1:]),
        "gigaflop": trained * of_clip["trained"] + scored * of_clip["scored"],
    }


def finetune(clips: str, output: str, encoder: str, steps: int, batch_size: int) -> dict[str, Any]:
    """Fine-tune an encoder by its recipe in bfloat16; return the seconds of a step, and its GFLOP."""
    flags = f"--bf16 --per_device_train_batch_size {batch_size} --max_steps {WARM_UP + steps} --model"
    trainer = build_trainer(clips, output, f"{flags} encoder:{encoder}")
    ends = []
    fit(trainer, on_step_end=lambda: ends.append(time.perf_counter()))
    of_clip = count_operations(trainer, batches=2)["trained"]
    seconds = (ends[-1] - ends[WARM_UP - 1]) / steps
    return {"step_seconds": seconds, "gigaflop": batch_size * of_clip}


def step(clips: str, output: str, steps: int, busy: bool) -> dict[str, Any]:
    """Return the seconds of a training step of `vit-32-30` in bfloat16, alone or next to a process that is busy."""
    trainer = build_trainer(clips, output, f"--model vit-32-30 --bf16 --max_steps {WARM_UP + steps}")
    ends, loops = [], []

    def end_step() -> bool:
        ends.append(time.perf_counter())
        if busy and len(ends) == WARM_UP:
            loops.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            ends[-1] = time.perf_counter()
        return len(ends) > WARM_UP and ends[-1] - ends[WARM_UP - 1] > BUSY_SECONDS

    try:
        fit(trainer, on_step_end=end_step)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    return {"step_seconds": median(end - start for start, end in pairwise(ends[WARM_UP - 1 :]))}


def features(clips: str, cache: str) -> dict[str, Any]:
    """Return the seconds and gigabytes of all clips' features of `vit-32-30`, and the seconds of reading the corpus.

    Reading checks and decodes each clip; as in a training, its samples are kept until the features are computed.
    """
    os.environ["HF_VIVAE_CACHE"] = cache  # an empty one
    import hf_vivae
    from hf_vivae.corpus.decoded import decode_once
    from hf_vivae.features.cache import fit_extractor

    with decode_once(Path(cache)):
        started = time.perf_counter()
        dataset = hf_vivae.load_folder(clips)
        read = time.perf_counter()
        extractor, rows = hf_vivae.build_feature_extractor("vit-32-30"), range(len(dataset))
        result = fit_extractor(extractor, dataset, rows, "none", max(dataset["duration"]))
        ended = time.perf_counter()
    samples = sum(dataset["duration"]) * extractor.sampling_rate
    gigabytes = (4 * samples + result.data.nbytes) / 1e9  # in 32-bit floats
    return {"work_seconds": ended - read, "read_seconds": read - started, "gigabytes": gigabytes}


def first_step(script: str, flags: list[str]) -> None:
    """Run a recipe that trains until the end of its first step, and end the process there."""

    def end_at_first_step() -> None:
        # of the modules that the recipe itself imports, so that their time is the recipe's
        while not hasattr(sys.modules.get("transformers.trainer_callback"), "CallbackHandler"):
            time.sleep(0.005)
        sys.modules["transformers.trainer_callback"].CallbackHandler.on_step_end = leave

    def leave(*args, **kwargs) -> None:
        print(json.dumps({"steps": 1}), flush=True)
        os._exit(0)

    threading.Thread(target=end_at_first_step, daemon=True).start()
    sys.argv = [script, *flags]
    runpy.run_path(script, run_name="__main__")
    sys.exit("error: the recipe ended before its first step.")


def build_trainer(clips: str, output: str, flags: str, scored: bool = False) -> "VivaeTrainer":
    """Return the Trainer of a run on four fifths of the clips; `scored` scores the other fifth after each epoch."""
    import hf_vivae  # first: it sets up threads before torch is loaded

    # isort: split
    import numpy as np

    from hf_vivae.checkpoints.resolve import find_checkpoint
    from hf_vivae.training import build
    from hf_vivae.training.recipes import parse_run

    common = "--data folder --protocol random-80-20 --save_strategy no --load_best_model_at_end false"
    quiet = f"--logging_strategy no --disable_tqdm true --eval_strategy {'epoch' if scored else 'no'}"
    argv = f"{common} {quiet} {flags}".split()
    recipes = Path(hf_vivae.__file__).parents[1] / "recipes"
    run, args = parse_run([*argv, "--data_dir", clips, "--output_dir", output], recipes=recipes)
    data = build.load_training_data(run, args.seed, run.load())
    rows = np.random.default_rng(0).permutation(len(data.clips)).tolist()
    tested = len(rows) // 5
    parts = {"train": rows[tested:], "validation": rows[:tested], "test": ()}
    checkpoint = find_checkpoint(run.model, run.model_name_or_path, run.from_scratch, run.trust_remote_code)
    inputs = build.build_fold_inputs(run, args, data, parts, checkpoint)
    return build.build_trainer(run, args, data, parts, inputs)


def fit(trainer: "VivaeTrainer", **functions: Any) -> None:
    """Train, and call functions by the names of the library's events; a true result of one ends the training."""
    from transformers import TrainerCallback

    from hf_vivae.training.fit import fit_model

    def handler(function: Any) -> Any:
        def handle(self, args, state, control, **kwargs) -> None:
            control.should_training_stop |= bool(function())

        return handle

    events = {name: handler(function) for name, function in functions.items()}
    trainer.add_callback(type("Watch", (TrainerCallback,), events)())
    fit_model(trainer, Path(trainer.args.output_dir))


def count_operations(trainer: "VivaeTrainer", batches: int) -> dict[str, float]:
    """Return the GFLOP of matrix products for one clip, `trained` and `scored`; a multiplication and a sum are two."""
    from torch.utils.flop_counter import FlopCounterMode

    model, clips = trainer.model.train(), 0
    model.set_attn_implementation("eager")  # fused attention is not counted on CPUs
    trained = scored = 0
    for batch in islice(trainer.get_train_dataloader(), batches):
        inputs = {name: values for name, values in batch.items() if name != "clip"}
        clips += len(inputs["labels"])
        with FlopCounterMode(display=False) as forward:
            loss = model(**inputs).loss
        with FlopCounterMode(display=False) as backward:
            loss.backward()
        scored += forward.get_total_flops() / 1e9
        trained += (forward.get_total_flops() + backward.get_total_flops()) / 1e9
    return {"trained": trained / clips, "scored": scored / clips}


if __name__ == "__main__":
    measurements = {function.__name__: function for function in (train, finetune, step, features, first_step)}
    print(json.dumps(measurements[sys.argv[1]](**json.loads(sys.argv[2]))))
