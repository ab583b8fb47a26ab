"""The same seed gives the same bits, in one process and in two; another seed gives others."""

import pytest
from launching import PYTHON, TORCHRUN, finish, outcome
from runner import flags, run

SEEDS = (0, 1, 2)


def argv_of(corpus, output, seed: int, *more: str) -> list[str]:
    """With all that draws numbers while training: dropout, order of the clips, augmentation."""
    augment = '{"gain_db": 6, "time_masks": 1, "mel_masks": 1, "mixup": 0.3}'
    drop = (
        '{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "hidden_dropout": 0.1}'
    )
    return flags(corpus, output, "vit-32-30", "--model_config", drop, "--augment", augment, "--seed", str(seed), *more)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tiny_vivae, tmp_path):
    seen = []
    for number, seed in enumerate((0, 0, 1)):
        run(argv_of(tiny_vivae, tmp_path / str(number), seed))
        seen.append(outcome(tmp_path / str(number) / "S01"))
    assert seen[0] == seen[1]
    assert seen[0]["weights"] != seen[2]["weights"]


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "batch"), [(PYTHON, "8"), (TORCHRUN, "4")], ids=["one", "two"])
def test_processes_started_anew_repeat_each_seed(launcher, batch, tiny_vivae, tmp_path):
    seen = {}
    for seed in SEEDS:
        for turn in range(2):
            output = tmp_path / f"{seed}-{turn}"
            status, _, said = finish(
                argv_of(tiny_vivae, output, seed, "--per_device_train_batch_size", batch), launcher
            )
            assert status == 0, said
            seen[seed, turn] = outcome(output / "S01")
        assert seen[seed, 0] == seen[seed, 1]
    assert len({str(seen[seed, 0]["weights"]) for seed in SEEDS}) == len(SEEDS)
