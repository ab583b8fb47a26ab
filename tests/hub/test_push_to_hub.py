"""`recipes/train.py --push_to_hub`: checkpoints while it trains, the run at its end, our card, no pickle."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from forks import run_forked
from huggingface_hub import ModelCard
from loopback_hub.server import WRITE_TOKEN, Fault, HubServer
from runner import ROOT, TRAIN, flags

from hf_vivae.training.arguments import VivaeTrainingArguments

pytestmark = pytest.mark.hub


def train(hub: HubServer, argv: list[str], token: str | None = WRITE_TOKEN) -> subprocess.CompletedProcess:
    return run_forked([TRAIN, *argv, "--push_to_hub"], env=hub.environment(hub.home, token))


def titles(hub: HubServer, repo: str) -> list[str]:
    """Of the commits, oldest first, without that of the repository's making."""
    found = hub.store.repos["model", repo]
    return [commit.title for commit in reversed(found.history(found.find("main")))][1:]


def no_pickles(hub: HubServer, repo: str) -> bool:
    found = hub.store.repos["model", repo]
    paths = {path for commit in found.commits.values() for path in commit.files}
    return not [path for path in paths if path.endswith((".bin", ".pt", ".pth", ".pkl"))]


def test_a_training_pushes_its_epochs_and_then_itself(hub, tiny_vivae, tmp_path):
    argv = flags(tiny_vivae, tmp_path / "my-run", "vit-32-30", "--num_train_epochs", "2", "--hub_always_push", "true")
    done = train(hub, argv)
    assert done.returncode == 0, done.stderr
    assert f"pushed      {hub.url}/tester/my-run/commit/" in done.stdout
    assert titles(hub, "tester/my-run") == ["Training, epoch 1", "Training, epoch 2", "End of training"]
    repo = hub.store.repos["model", "tester/my-run"]
    assert repo.private
    assert no_pickles(hub, "tester/my-run")
    weights = (tmp_path / "my-run" / "S01" / "model.safetensors").read_bytes()
    assert hub.store.read("tester/my-run", "model.safetensors") == weights
    results = json.loads((tmp_path / "my-run" / "S01" / "results.json").read_text())
    card = ModelCard(hub.store.read("tester/my-run", "README.md").decode())
    scores = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert scores["accuracy"] == pytest.approx(results["test"]["accuracy"], abs=5e-5)
    begun = repo.history(repo.find("main"))[-2]
    early = ModelCard(hub.store.blobs[begun.files["README.md"]].decode())
    assert early.data.eval_results is None
    assert "generated_from_trainer" not in card.content + early.content
    again = train(hub, argv)
    assert "is finished and not trained again" in again.stderr
    assert len(titles(hub, "tester/my-run")) == 3
    (command,) = re.findall(r"```bash\n(.*?)```", card.text, re.DOTALL)
    assert run_elsewhere(command, tiny_vivae, tmp_path) == results["test"]["accuracy"]


def run_elsewhere(command: str, corpus: Path, folder: Path) -> float:
    """The accuracy that a card's command gives, in a folder where its relative paths lead somewhere."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    for name, target in (("recipes", ROOT / "recipes"), (corpus.name, corpus)):
        (elsewhere / name).symlink_to(target)
    words = [word for word in shlex.split(command) if word != "--push_to_hub"]
    assert words[:2] == ["python", "recipes/train.py"]
    run_forked(words[1:], check=True, cwd=elsewhere)
    return json.loads((elsewhere / "my-run" / "S01" / "results.json").read_text())["test"]["accuracy"]


def test_every_checkpoint_can_be_kept_and_a_failed_push_does_not_stop_the_training(hub, tiny_vivae, tmp_path):
    hub.faults.append(Fault("POST", "/commit/", 400))
    argv = flags(
        tiny_vivae, tmp_path / "kept", "mlp", "--hub_strategy", "all_checkpoints", "--hub_model_id", "tester/k"
    )
    done = train(hub, [*argv, "--hub_always_push", "true", "--hub_private_repo", "false"])
    assert done.returncode == 0, done.stderr
    assert "A checkpoint was not pushed: expected the Hub to take tester/k, found a refusal (400" in done.stderr
    assert titles(hub, "tester/k") == ["Training, epoch 2", "End of training"]
    kept = {path for path in hub.store.paths("tester/k") if path.startswith("checkpoint-")}
    assert {Path(path).name for path in kept} == {
        "config.json", "preprocessor_config.json", "model.safetensors", "mlp.py", "features_waveform.py", "silence.py",
    }  # fmt: skip
    assert not hub.store.repos["model", "tester/k"].private
    assert no_pickles(hub, "tester/k")
    assert not list((tmp_path / "kept").rglob(".push-*"))


def test_folds_are_pushed_as_one_model(hub, tiny_vivae, tmp_path):
    argv = flags(tiny_vivae, tmp_path / "folds", "mlp", "--hub_strategy", "end", "--hub_revision", "second")
    argv[argv.index("--folds") + 1 : argv.index("--folds") + 2] = ["0", "1"]
    done = train(hub, argv)
    assert done.returncode == 0, done.stderr
    repo = hub.store.repos["model", "tester/folds"]
    assert sorted(repo.branches) == ["main", "second"]
    commit = repo.find("second")
    assert commit.title == "End of training"
    weights = (tmp_path / "folds" / "S01" / "model.safetensors").read_bytes()
    assert hub.store.blobs[commit.files["model.safetensors"]] == weights
    results = json.loads((tmp_path / "folds" / "results.json").read_text())
    card = ModelCard(hub.store.blobs[commit.files["README.md"]].decode())
    scores = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert scores["UAR"] == pytest.approx(results["test"]["uar"], abs=5e-5), "pooled over both"


def test_without_a_token_nothing_is_trained(hub, tiny_vivae, tmp_path):
    done = train(hub, flags(tiny_vivae, tmp_path / "none", "mlp"), token=None)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "error: expected a Hugging Face token that may write, found none; log in with `hf auth login`, or set "
        "HF_TOKEN."
    )
    assert not (tmp_path / "none").exists()


def test_where_nothing_may_be_written_nothing_is_trained(hub, tiny_vivae, tmp_path):
    hub.store.create("model", "tester/seen", private=False)
    expected = {
        "else/where": "expected a token that may write to else/where, found one that may not",
        "tester/seen": "expected tester/seen to be private, found a public repository; allow that",
    }
    for repo, sentence in expected.items():
        done = train(hub, [*flags(tiny_vivae, tmp_path / "none", "mlp"), "--hub_model_id", repo])
        assert done.returncode == 1
        assert f"error: {sentence}" in done.stderr
        assert not (tmp_path / "none").exists()


def test_optimizer_states_do_not_go_to_the_hub():
    with pytest.raises(ValueError, match=r"found checkpoint, which pushes optimizer states, and these are pickles"):
        VivaeTrainingArguments(hub_strategy="checkpoint")
