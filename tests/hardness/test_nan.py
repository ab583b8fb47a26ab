"""A loss that is no number ends the training at once, and names the clips of its step. More in test_metrics."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from launching import TORCHRUN, finish
from runner import flags, run

CURE = "lower --learning_rate, or leave out the clip where it is always the same one."


@pytest.fixture
def loud_vivae(tiny_vivae, tmp_path):
    """One training clip of S03 has samples of 1e30: finite, as files may have them, but their power is not."""
    corpus = shutil.copytree(tiny_vivae, tmp_path / "corpus")
    clip = sorted(corpus.glob("full_set/S03_*"))[0]
    samples, rate = soundfile.read(clip)
    soundfile.write(clip, samples * 1e30, rate, subtype="FLOAT")
    return corpus, clip.name


def trained_together(said: str) -> list[str]:
    start = "expected a finite loss, found NaN or infinity in step "
    sentence = next(line for line in said.splitlines() if start in line)
    step, _, rest = sentence.partition(start)[2].partition(", on ")
    names, _, cure = rest.partition("; ")
    assert step.isdecimal()
    assert cure == CURE
    return names.split(", ")


@pytest.mark.parametrize("more", [[], ["--augment", '{"gain_db": 6}'], ["--gradient_accumulation_steps", "2"]])
def test_the_clip_that_breaks_a_training_is_among_the_named(more, loud_vivae, tmp_path):
    corpus, loud = loud_vivae
    batch = ["--per_device_train_batch_size", "4", "--logging_strategy", "no", "--scale", "full_scale"]
    with pytest.raises(ValueError, match="expected a finite loss") as error:
        run(flags(corpus, tmp_path / "run", "vit-32-30", *batch, *more))
    names = trained_together(str(error.value))
    assert len(names) == 4
    assert loud in names
    record = json.loads((tmp_path / "run" / "S01" / "run.json").read_text())
    assert set(names) <= set(record["fold"]["train"])
    assert not (tmp_path / "run" / "S01" / "results.json").exists()


def test_a_rate_that_diverges_is_named_with_its_clips_and_nothing_is_saved_of_it(tiny_vivae, tmp_path):
    argv = flags(tiny_vivae, tmp_path, "mlp", "--optim", "sgd", "--adam_l2", "false")
    argv += ["--learning_rate", "1e30", "--max_grad_norm", "0", "--num_train_epochs", "9"]
    with pytest.raises(ValueError, match="expected a finite loss") as error:
        run(argv)
    assert len(trained_together(str(error.value))) == 8
    for weights in tmp_path.rglob("*.safetensors"):
        from safetensors.numpy import load_file

        assert all(np.isfinite(tensor).all() for tensor in load_file(weights).values())


@pytest.mark.slow
def test_of_two_processes_both_end_and_the_clip_is_named(loud_vivae, tmp_path):
    corpus, loud = loud_vivae
    batch = ["--per_device_train_batch_size", "4", "--scale", "full_scale"]
    argv = flags(corpus, tmp_path / "run", "vit-32-30", *batch)
    status, _, said = finish(argv, TORCHRUN)
    assert status != 0
    names = trained_together(said)
    assert loud in names
    assert len(names) == 4, "the other process's clips gave a loss"
    assert said.count("expected a finite loss") == 1, "one process says it"
