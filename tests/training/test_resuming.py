"""A run that was killed goes on, and ends, as one that never was."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from locked import lock
from runner import flags, run
from safetensors.torch import load_file
from transformers import TrainerControl, TrainerState, TrainingArguments

from hf_vivae.training import run as fold_training
from hf_vivae.training.fit import _BestCheckpoint, _drop_unfinished_checkpoints
from hf_vivae.training.trainer import VivaeTrainer
from hf_vivae.validation import UserError

pytestmark = pytest.mark.usefixtures("no_pictures")

ENDS = {
    "patience": ["--early_stopping_patience", "2", "--num_train_epochs", "9", "--learning_rate", "3e-3"],
    "steps": ["--max_steps", "4", "--eval_strategy", "steps", "--eval_steps", "1", "--save_strategy", "steps",
              "--save_steps", "1", "--logging_strategy", "steps", "--logging_steps", "1"],
}  # fmt: skip


def scores(folder: Path) -> list[dict[str, float]]:
    """Return the scores of each step, without times and the summary at the end, which belong to each start."""
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


def weights_agree(folder: Path, other: Path) -> bool:
    return (folder / "S01" / "model.safetensors").read_bytes() == (other / "S01" / "model.safetensors").read_bytes()


@pytest.fixture
def killed(tiny_vivae, tmp_path, monkeypatch) -> Path:
    """A run that was killed after its last checkpoint, the twelfth step; the sixth is the best."""
    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        run_and_kill(flags(tiny_vivae, folder, "mlp", *ENDS["patience"]), 12, monkeypatch)
    assert {path.name for path in (folder / "S01").glob("checkpoint-*")} == {"checkpoint-6", "checkpoint-12"}
    return folder


@pytest.mark.parametrize("place", ["renamed", "relative"])
def test_a_resumed_run_takes_its_best_weights_wherever_its_folder_is(
    place, killed, whole, tiny_vivae, tmp_path, monkeypatch
):
    folder = tmp_path / "elsewhere"
    killed.rename(folder)
    if place == "relative":
        monkeypatch.chdir(tmp_path)
        folder = Path(folder.name)
    run(flags(tiny_vivae, folder, "mlp", *ENDS["patience"]))
    assert weights_agree(folder, whole["patience"])


def test_a_resumed_run_without_its_best_checkpoint_is_refused(killed, tiny_vivae):
    best = killed / "S01" / "checkpoint-6"
    best.rename(killed / "kept")
    with pytest.raises(UserError, match=rf"expected {re.escape(str(best))}, the best checkpoint so far"):
        run(flags(tiny_vivae, killed, "mlp", *ENDS["patience"]))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_without_one_of_its_files_is_not_resumed(name, killed, whole, tiny_vivae, caplog):
    """The library deletes old checkpoints file by file, and a kill may come in between."""
    (killed / "S01" / "checkpoint-12" / name).unlink()
    run(flags(tiny_vivae, killed, "mlp", *ENDS["patience"]))
    assert re.search(r"checkpoint-12 has no whole \S+ and is removed", caplog.text)
    assert weights_agree(killed, whole["patience"])


def drop_history(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"log_history": []}))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = {
    **{f"{name} cut": (name, cut) for name in ("optimizer.pt", "rng_state.pth", "model.safetensors", "config.json")},
    "scheduler.pt empty": ("scheduler.pt", lambda file: file.write_bytes(b"")),
    "trainer_state.json not text": ("trainer_state.json", lambda file: file.write_bytes(b"\xff")),
    "trainer_state.json a list": ("trainer_state.json", lambda file: file.write_text("[1]")),
    "trainer_state.json without its log": ("trainer_state.json", drop_history),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_with_a_damaged_file_is_not_resumed(damage, saved, caplog):
    """A full disk or a power cut leaves a file cut or empty, which stopped every further start of the run."""
    name, harm = DAMAGES[damage]
    harm(saved / "checkpoint-12" / name)
    _drop_unfinished_checkpoints(saved, sharded=False)
    assert f"checkpoint-12 has no whole {name} and is removed" in caplog.text
    assert [path.name for path in saved.glob("checkpoint-*")] == ["checkpoint-6"]


@pytest.fixture(scope="module")
def two_checkpoints(tiny_vivae, tmp_path_factory) -> Path:
    """The checkpoints of a run that was killed, `checkpoint-6` the best and `checkpoint-12` the last."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        run_and_kill(flags(tiny_vivae, folder, "mlp", *ENDS["patience"]), 12, patch)
    return folder / "S01"


@pytest.fixture
def saved(two_checkpoints, tmp_path) -> Path:
    """The same, to be harmed."""
    return shutil.copytree(two_checkpoints, tmp_path / "S01")


def test_whole_checkpoints_stay(saved):
    _drop_unfinished_checkpoints(saved, sharded=False)
    assert {path.name for path in saved.glob("checkpoint-*")} == {"checkpoint-6", "checkpoint-12"}


@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "trainer_state.json"])
def test_a_checkpoint_that_may_not_be_read_stays_and_is_named(name, saved, monkeypatch):
    lock(saved / "checkpoint-12" / name, monkeypatch)
    with pytest.raises(UserError, match=rf"found \S+checkpoint-12/{name} \(Permission denied\); change its perm"):
        _drop_unfinished_checkpoints(saved, sharded=False)
    assert (saved / "checkpoint-12").is_dir()


def test_a_best_checkpoint_whose_weights_are_cut_is_refused_before_the_training(saved):
    """The library would say so with its last step."""
    cut(saved / "checkpoint-6" / "model.safetensors")
    args = TrainingArguments(saved, load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch")
    state = TrainerState(best_global_step=6)
    with pytest.raises(UserError, match=r"^expected whole weights in .*checkpoint-6/model.safetensors, of the best"):
        _BestCheckpoint(saved).on_train_begin(args, state, TrainerControl())


def test_a_run_that_is_killed_while_it_is_scored_does_not_train_again(whole, tiny_vivae, tmp_path, monkeypatch):
    argv = flags(tiny_vivae, tmp_path, "mlp", *ENDS["patience"])
    with monkeypatch.context() as killing:
        killing.setattr(fold_training, "predict_parts", lambda *args: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            run(argv)
    with monkeypatch.context() as watching:
        watching.setattr(VivaeTrainer, "training_step", None)  # not to be called
        run(argv)
    assert weights_agree(tmp_path, whole["patience"])
    assert [path.name for path in (tmp_path / "S01").glob("checkpoint-*")] == ["checkpoint-6"], "the best alone stays"


def test_a_run_is_not_resumed_by_another_number_of_processes(killed, tiny_vivae):
    checkpoint = killed / "S01" / "checkpoint-12"
    for rank in range(2):
        (checkpoint / f"rng_state_{rank}.pth").write_bytes((checkpoint / "rng_state.pth").read_bytes())
    (checkpoint / "rng_state.pth").unlink()
    with pytest.raises(UserError, match=r"expected 2 processes, which .* was written by, found 1"):
        run(flags(tiny_vivae, killed, "mlp", *ENDS["patience"]))
    assert checkpoint.is_dir(), "nothing is lost"


def test_the_best_checkpoint_needs_no_more_than_its_weights(killed, whole, tiny_vivae):
    (killed / "S01" / "checkpoint-6" / "optimizer.pt").unlink()
    run(flags(tiny_vivae, killed, "mlp", *ENDS["patience"]))
    assert weights_agree(killed, whole["patience"])


def test_where_nothing_selects_the_last_checkpoint_stays(tiny_vivae, tmp_path):
    run(flags(tiny_vivae, tmp_path, "mlp", *ENDS["patience"][2:4], "--load_best_model_at_end", "false"))
    assert [path.name for path in (tmp_path / "S01").glob("checkpoint-*")] == ["checkpoint-27"]
