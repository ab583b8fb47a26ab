"""The last step of an epoch, which the clips may not fill: several processes learn from it what one does."""

import json
from pathlib import Path

import pytest
import torch
from forks import fork_group
from gradients import train_all
from safetensors.torch import load_file

pytestmark = pytest.mark.usefixtures("no_pictures")

SCRIPT = Path(__file__).parent / "helpers" / "gradients.py"
# clips that fill steps of 8 or leave every process, one process or none with clips of its own in the last one
CASES = [{"clips": clips, "accumulated": 1} for clips in (1, 3, 8, 11, 12, 13, 15)]
CASES += [{"clips": clips, "accumulated": 2} for clips in (2, 9, 11, 14, 21)]
CASES += [
    {"clips": 11, "accumulated": 1, "mixed": True, "label_smoothing_factor": 0.1},
    {"clips": 11, "accumulated": 1, "loss": "ctc"},
    {"clips": 11, "accumulated": 1, "dataloader_drop_last": True},
    {"clips": 19, "accumulated": 1},
    {"clips": 19, "accumulated": 1, "resume": "checkpoint-2", "of": 15},
]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the gradients of one process, and those of two."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    group = fork_group([SCRIPT, json.dumps(CASES), two], processes=2)
    ours = train_all(CASES, one)
    for process in group:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    return ours, load_file(two / "gradients.safetensors")


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: " ".join(map(str, CASES[number].values())))
def test_two_processes_have_the_gradients_of_one(number, found):
    ours, theirs = (results[f"{number} gradients"] for results in found)
    assert ours.abs().amax(1).min() > 1e-4, "every step learns something"
    torch.testing.assert_close(theirs, ours, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: " ".join(map(str, CASES[number].values())))
def test_two_processes_log_the_loss_and_accuracy_of_one(number, found):
    ours, theirs = (results[f"{number} logged"] for results in found)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
