"""A run that was killed goes on, and ends, as one that never was."""

import json
from pathlib import Path

import pytest
import torch
from runner import flags, run
from safetensors.torch import load_file

from hf_vivae.trainer import VivaeTrainer

pytestmark = pytest.mark.usefixtures("no_pictures")

ENDS = {
    "patience": ["--early_stopping_patience", "2", "--num_train_epochs", "9", "--learning_rate", "3e-3"],
    "steps": ["--max_steps", "4", "--eval_strategy", "steps", "--eval_steps", "1", "--save_strategy", "steps",
              "--save_steps", "1", "--logging_strategy", "steps", "--logging_steps", "1"],
}  # fmt: skip


def scores(folder: Path) -> list[dict[str, float]]:
    """What was measured at each step; times and the summary at the end are of each start."""
    entries = [json.loads(line) for line in (folder / "S01" / "history.jsonl").read_text().splitlines()]
    kept = ("step", "epoch", "loss", "eval_loss", "eval_uar")
    return [{name: entry[name] for name in kept if name in entry} for entry in entries if "train_runtime" not in entry]


@pytest.fixture(scope="module")
def whole(tiny_vivae, tmp_path_factory) -> dict[str, Path]:
    """Runs that were never killed, by what ends them."""
    folders = {end: tmp_path_factory.mktemp(end) for end in ENDS}
    for end, folder in folders.items():
        run(flags(tiny_vivae, folder, "mlp", *ENDS[end]))
    return folders


def run_and_kill(argv: list[str], step: int, monkeypatch) -> None:
    """A run that ends when it has written the checkpoint of a step."""
    save = VivaeTrainer._save_checkpoint

    def save_and_die(self, *args) -> None:
        save(self, *args)
        if self.state.global_step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as killing:
        killing.setattr(VivaeTrainer, "_save_checkpoint", save_and_die)
        run(argv)


@pytest.mark.parametrize(("end", "step"), [("patience", 3), ("patience", 12), ("steps", 4)])
def test_a_run_that_is_killed_at_a_checkpoint_ends_as_one_never_killed(
    end, step, whole, tiny_vivae, tmp_path, monkeypatch
):
    """Three steps are an epoch; the second is the best, so that a patience of two ends the training after twelve."""
    argv = flags(tiny_vivae, tmp_path, "mlp", *ENDS[end])
    with pytest.raises(KeyboardInterrupt):
        run_and_kill(argv, step, monkeypatch)
    run(argv)
    assert scores(tmp_path) == scores(whole[end])
    assert max(entry["step"] for entry in scores(tmp_path)) == {"patience": 12, "steps": 4}[end]
    losses = [entry["eval_loss"] for entry in scores(tmp_path) if "eval_loss" in entry]
    assert len(set(losses)) == 4, "the weights move"
    one, other = (load_file(folder / "S01" / "model.safetensors") for folder in (whole[end], tmp_path))
    torch.testing.assert_close(other, one, atol=0, rtol=0)
