"""Options of training that the paper does not have: rates, label weights, mixed labels, lengths, no selection."""

import json
import re

import numpy as np
import pytest
import torch
from encoders import LABELS, SECONDS, write_encoder
from runner import ROOT, encoder_flags, flags, run
from sklearn.model_selection import GroupKFold
from tiny import CONFIGS
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from hf_vivae.checkpoints.load import load_encoder
from hf_vivae.models import build_model
from hf_vivae.run_folder import read_predictions
from hf_vivae.splits import make_folds
from hf_vivae.training.argument_checks import CHECKPOINTING
from hf_vivae.training.arguments import VivaeTrainingArguments
from hf_vivae.training.recipes import parse_run
from hf_vivae.training.trainer import VivaeTrainer
from hf_vivae.validation import UserError

pytestmark = pytest.mark.usefixtures("no_pictures")

SPARED = ("bias", "layer_weights")  # the latter would decay to the same for all layers


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("whisper"), "whisper")


def trainer(model: nn.Module, tmp_path, *, more: dict | None = None, **settings) -> VivaeTrainer:
    unscored = {"eval_strategy": "no", "load_best_model_at_end": False, "report_to": "none"}
    args = VivaeTrainingArguments(output_dir=str(tmp_path), **unscored, **settings)
    return VivaeTrainer(model=model, args=args, train_dataset=list(range(200)), **(more or {}))


def mlp():
    return build_model("mlp", **CONFIGS["mlp"])


def test_the_head_of_an_encoder_has_a_rate_of_its_own(whisper, tmp_path):
    model, _ = load_encoder(whisper, LABELS, {}, SECONDS)
    model.encoder.conv1.requires_grad_(False)
    rates = {"learning_rate": 1e-4, "head_learning_rate": 1e-3, "weight_decay": 0.1}
    optimizer = trainer(model, tmp_path, **rates).create_optimizer()
    found = {id(weight): group for group in optimizer.param_groups for weight in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(found), "no weight in two groups"
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            assert id(weight) not in found
            continue
        group = found[id(weight)]
        assert group["lr"] == (1e-4 if name.startswith("encoder.") else 1e-3)
        assert group["weight_decay"] == (0.0 if "norm" in name or name.endswith(SPARED) else 0.1), name


@pytest.mark.parametrize("grad", [True, False])
def test_class_weights_count_in_training_alone(grad, tmp_path):
    weights = torch.tensor([1.0, 3.0, 0.5, 1.0, 1.0, 1.0])
    found = trainer(mlp(), tmp_path, more={"class_weights": weights})
    logits, labels = torch.randn(4, 6), torch.tensor([0, 1, 1, 2])
    with torch.set_grad_enabled(grad):
        loss = found._mean_loss({"logits": logits}, labels)
    each = cross_entropy(logits, labels, reduction="none")
    expected = (each * (weights[labels] if grad else 1)).mean()
    torch.testing.assert_close(loss, expected)


def test_balanced_labels_weigh_the_same(tiny_vivae, tmp_path, monkeypatch):
    seen = {}
    before = VivaeTrainer.__init__
    monkeypatch.setattr(
        VivaeTrainer, "__init__", lambda self, *args, **kwargs: (seen.update(kwargs), before(self, *args, **kwargs))[1]
    )
    run(flags(tiny_vivae, tmp_path, "mlp", "--class_weights", "balanced", "--num_train_epochs", "1"))
    labels = np.array([row["label"] for row in read_predictions(tmp_path / "S01") if row["split"] == "train"])
    totals = [float(seen["class_weights"][label]) * (labels == label).sum() for label in np.unique(labels)]
    assert totals == pytest.approx([len(labels) / len(totals)] * len(totals))


def test_mixed_labels_are_the_targets_of_the_loss(tmp_path):
    found = trainer(mlp(), tmp_path, label_smoothing_factor=0.1)
    logits, labels = torch.randn(3, 6), torch.tensor([0, 4, 5])
    shares = 0.7 * one_hot(labels, 6) + 0.3 * one_hot(labels.flip(0), 6)
    loss = found._mean_loss({"logits": logits}, shares)
    smooth = 0.9 * shares + 0.1 / 6
    torch.testing.assert_close(loss, -(smooth * logits.log_softmax(-1)).sum(-1).mean())
    assert int(found._trained.hits) == int((logits.argmax(-1) == labels).sum())
    counted = found._get_num_items_in_batch([{"labels": shares}, {"labels": shares}], torch.device("cpu"))
    assert int(counted) == 6, "clips, and not entries of their labels"


def test_clips_of_like_length_share_a_batch_and_scores_keep_their_order(tmp_path):
    durations = [float(number) for number in np.random.default_rng(0).permutation(200)]
    settings = {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": 5}
    found = trainer(mlp(), tmp_path, more={"train_lengths": durations}, **settings)
    order = list(found._get_train_sampler())
    assert sorted(order) == list(range(200))
    batches = [[durations[row] for row in order[start : start + 5]] for start in range(0, 200, 5)]
    assert np.mean([max(batch) - min(batch) for batch in batches]) < 40, "by chance it would be about 133"
    assert list(found._get_eval_sampler(list(range(7)))) == list(range(7))


def test_clips_of_like_length_are_drawn_from_seed_and_epoch_alone(tmp_path):
    durations = [float(number) for number in range(200)]
    orders = {}
    for batch, steps in ((8, 1), (2, 4)):
        settings = {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": batch}
        settings |= {"gradient_accumulation_steps": steps}
        found = trainer(mlp(), tmp_path, more={"train_lengths": durations}, **settings)
        for epoch in (0, 1, 0):
            found.state.epoch = epoch
            torch.rand(epoch + batch)  # what dropout has drawn in this process
            orders.setdefault(epoch, []).append(list(found._get_train_sampler()))
    assert all(order == drawn[0] for drawn in orders.values() for order in drawn)
    assert orders[0][0] != orders[1][0]


def test_predictions_are_of_their_own_clips_where_clips_of_like_length_share_a_batch(whisper, tiny_vivae, tmp_path):
    found = {}
    for strategy, size in (("group_by_length", "3"), ("sequential", "1")):
        more = ["--train_sampling_strategy", strategy, "--per_device_eval_batch_size", size, "--max_steps", "1"]
        argv = encoder_flags(tiny_vivae, whisper, tmp_path / strategy, *more, "--learning_rate", "1e-9")
        run([*argv, "--head_learning_rate", "1e-9"])
        found[strategy] = {row["file"]: row["logits"] for row in read_predictions(tmp_path / strategy / "S01")}
    assert found["group_by_length"].keys() == found["sequential"].keys()
    for file, logits in found["sequential"].items():
        assert found["group_by_length"][file] == pytest.approx(logits, abs=1e-5)


def test_where_nothing_selects_the_validation_clips_train_and_the_last_epoch_is_kept(tiny_vivae, tmp_path):
    results = run(flags(tiny_vivae, tmp_path, "mlp", "--select_on", "none"))
    assert "validation" not in results
    rows = read_predictions(tmp_path / "S01")
    assert {row["split"] for row in rows} == {"train", "test"}
    assert {row["speaker"] for row in rows if row["split"] == "train"} == {"S02", "S03", "S04"}
    assert json.loads((tmp_path / "S01" / "results.json").read_text())["selection"] is None
    assert results["habits"] == []
    assert (tmp_path / "S01" / "accuracy.png").is_file()


def test_a_last_epoch_that_diverged_is_no_result(tiny_vivae, tmp_path):
    more = ["--select_on", "none", "--adam_l2", "false", "--optim", "sgd", "--learning_rate", "1e30"]
    more += ["--max_grad_norm", "0", "--lr_decay_epochs", "0"]
    more += ["--num_train_epochs", "1", "--per_device_train_batch_size", "64"]  # one step, whose loss was finite
    with pytest.raises(ValueError, match="found NaN or infinity for 36 of 36 clips; training diverged, so lower the"):
        run(flags(tiny_vivae, tmp_path, "mlp", *more))
    assert not (tmp_path / "S01" / "results.json").exists()


def test_training_stops_where_nothing_gets_better_without_a_warning_about_watched_clips(
    tiny_vivae, tmp_path, monkeypatch
):
    warnings = []
    monkeypatch.setattr("transformers.trainer_callback.logger.warning", lambda text, *_: warnings.append(text))
    more = ["--early_stopping_patience", "2", "--num_train_epochs", "20", "--learning_rate", "1e-12"]
    run(flags(tiny_vivae, tmp_path, "mlp", *more, "--watch_test", "true"))
    assert [text for text in warnings if "early stopping" in text] == []
    history = [json.loads(line) for line in (tmp_path / "S01" / "history.jsonl").read_text().splitlines()]
    assert max(entry["epoch"] for entry in history) == 3


@pytest.mark.parametrize(
    ("model", "more", "sentence"),
    [
        ("mlp", ["--early_stopping_patience", "2", "--load_best_model_at_end", "false"], "needs a best evaluation"),
        ("mlp", ["--augment", '{"reverse": 1}'], "reverse"),
        ("mlp", ["--head_learning_rate", "1e-3"], "--adam_l2 has one rate for all parameters, found --head_learning_"),
        (
            "vit-base",
            ["--head_learning_rate", "1e-3", "--adam_l2", "false", "--lr_decay_epochs", "0"],
            "expected a pretrained encoder with --head_learning_rate, found --model vit-base",
        ),
        ("mlp", ["--head_learning_rate", "-1"], "expected --head_learning_rate above 0, found -1.0; 1e-3 is usual"),
        ("mlp", ["--early_stopping_patience", "-1"], "expected --early_stopping_patience of 0 or more, found -1"),
        ("mlp", ["--loss", "ctc", "--class_weights", "balanced"], "--class_weights balanced is for cross entropy"),
        ("logistic-regression", ["--augment", '{"gain_db": 3}'], "expected only arguments .* found --augment"),
    ],
)  # fmt: skip
def test_incompatible_arguments_are_refused(model, more, sentence, tiny_vivae, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        run(flags(tiny_vivae, tmp_path, model, *more))


def test_a_trainer_trains_twice(tmp_path):
    found = trainer(mlp(), tmp_path, save_strategy="no", num_train_epochs=1, learning_rate=1e-2)
    found.train_dataset = [{"input_values": torch.randn(2000), "labels": torch.tensor(label)} for label in range(6)]
    for _ in range(2):
        before = [weight.clone() for weight in found.model.parameters()]
        found.train()
        assert not all(map(torch.equal, before, found.model.parameters()))


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["mlp", "--label_smoothing_factor", "1.5"], "expected --label_smoothing_factor of 0 to 1, found 1.5; 0.1 is"),
        (
            ["mlp", "--per_device_train_batch_size", "0"],
            "expected --per_device_train_batch_size of 1 to 2147483648, found 0",
        ),
        (
            ["mlp", "--per_device_eval_batch_size", "0"],
            "expected --per_device_eval_batch_size of 1 to .*, found 0;",
        ),
        (["mlp", "--weight_decay", "-0.1"], "expected --weight_decay of 0 or more, found -0.1; 0 turns it off"),
        (["whisper-base", "--lr_decay_factor", "0.9"], "expected --lr_decay_epochs or --lr_decay_steps with --lr_d"),
        (["whisper-base", "--scale", "full_scale"], "waveforms and spectrograms, found --model whisper-base; leave"),
        (["probe:a/b", "--scale", "full_scale"], "waveforms and spectrograms, found --model probe:a/b; leave it out"),
        (["encoder:a/b", "--from_scratch", "--freeze", "all"], "gives random weights, found --freeze all; leave out"),
        (
            ["mlp", "--watch_test", "true", "--eval_strategy", "no", "--load_best_model_at_end", "false"],
            "--watch_test scores the test clips after each evaluation, found --eval_strategy no; leave out",
        ),
    ],
)
def test_impossible_values_are_refused(argv, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_run(["--model", *argv], ROOT / "recipes")


def test_augmented_clips_train_alike_at_once_and_in_halves(tiny_vivae, tmp_path):
    """8 x 1 = 2 x 4, with clips that are augmented and mixed again in each epoch."""
    augment = json.dumps({"gain_db": 6, "time_masks": 1, "mel_masks": 1, "mixup": 0.3})
    logits = {}
    for batch, steps in (("8", "1"), ("2", "4")):
        more = ["--per_device_train_batch_size", batch, "--gradient_accumulation_steps", steps, "--augment", augment]
        more += ["--optim", "sgd", "--adam_l2", "false", "--train_sampling_strategy", "sequential"]
        run(flags(tiny_vivae, tmp_path / batch, "vit-32-30", *more))
        logits[batch] = [row["logits"] for row in read_predictions(tmp_path / batch / "S01")]
    np.testing.assert_allclose(logits["8"], logits["2"], atol=1e-4)


def test_only_training_clips_are_augmented(tiny_vivae, tmp_path):
    """A model that is not trained scores all clips alike, whatever is done to those that train."""
    logits = []
    for augment in ("{}", '{"gain_db": 20, "mixup": 1.0, "probability": 1.0}'):
        folder = tmp_path / str(len(logits))
        run(flags(tiny_vivae, folder, "mlp", "--augment", augment, "--learning_rate", "1e-12"))
        logits.append([row["logits"] for row in read_predictions(folder / "S01")])
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-6)


def test_group_k_fold_is_scikit_learns(tiny_vivae):
    import hf_vivae

    clips = hf_vivae.corpus.read_vivae(tiny_vivae, allow_partial=True).dataset
    folds = make_folds(clips, "group-k-fold", clips["emotion"][:], seed=3, num_groups=3)
    expected = [test.tolist() for _, test in GroupKFold(3).split(clips["file"][:], groups=clips["speaker"][:])]
    assert [list(fold.test) for fold in folds] == expected


REFUSED = {
    "--optim galore_adamw": "galore_torch",
    "--optim adamw_bnb_8bit": "bitsandbytes",
    "--optim stable_adamw": "torch-optimi",
    "--optim adamw_torch --optim_args x": "not enough values to unpack",
    "--optim rmsprop --optim_args alpha=x": "could not convert string to float: 'x'",
    "--optim adamw_torch --weight_decay nan": "expected --weight_decay of 0 or more, found nan",
    "--adam_epsilon nan": "expected --adam_epsilon of 0 or more, found nan",
    "--max_grad_norm nan": "expected --max_grad_norm of 0 or more, found nan",
    "--lr_decay_epochs 2 --lr_decay_factor nan": "expected --lr_decay_factor above 0, found nan",
    "--lr_decay_epochs 2 --lr_decay_factor 0": "expected --lr_decay_factor above 0, found 0",
    "--lr_scheduler_kwargs x": "expected JSON in --lr_scheduler_kwargs, found 'x'",
    "--lr_scheduler_kwargs [1]": "expected a JSON object in --lr_scheduler_kwargs, found list",
    f"--{CHECKPOINTING} --{CHECKPOINTING}_kwargs x": f"expected JSON in --{CHECKPOINTING}_kwargs, found 'x'",
    '--lr_scheduler_type cosine --lr_scheduler_kwargs {"foo":1}': "unexpected keyword argument 'foo'",
    "--lr_scheduler_type warmup_stable_decay": "num_decay_steps",
    "--lr_scheduler_type cosine_with_min_lr": "min_lr",
    '--lr_decay_epochs 2 --lr_scheduler_kwargs {"foo":1}': "replaces --lr_scheduler_type, --lr_sch",
    '--accelerator_config {"foo":1}': "unexpected keyword argument 'foo'",
    "--fsdp full_shard": "expected several processes with --fsdp, found one",
    "--use_liger_kernel": "kernels are those of language models",
    "--neftune_noise_alpha 5": "embeddings of words",
    "--prediction_loss_only": "need the logits",
    "--label_names x": "those of --task",
    "--bf16_full_eval": "--bf16 is for scoring, too",
    "--torch_compile_mode nosuch": "'nosuch'",
    "--num_train_epochs inf": "expected --num_train_epochs above 0, found inf",
    "--per_device_train_batch_size 99999999999999999999": "of 1 to 2147483648, found 99999999999999999999",
    "--eval_accumulation_steps 0": "expected --eval_accumulation_steps of 1 or more, found 0",
    "--dataloader_persistent_workers": "expected --dataloader_num_workers with --dataloader_persistent",
    "--dataloader_num_workers 1 --dataloader_prefetch_factor -1": "expected --dataloader_prefetch_factor of 1 or more",
}


@pytest.mark.parametrize("more", REFUSED)
def test_what_no_training_can_take_is_refused_before_clips_are_read(more):
    argv = ["--model", "mlp", "--adam_l2", "false", "--lr_decay_epochs", "0", *more.split()]
    with pytest.raises(UserError, match=re.escape(REFUSED[more])):
        parse_run(argv, ROOT / "recipes")


@pytest.mark.parametrize(
    "more",
    [
        "--optim adafactor",
        "--optim adamw_torch --optim_args foo=1",
        "--optim sgd --lr_scheduler_type reduce_lr_on_plateau",
        '--lr_scheduler_type cosine_with_min_lr --lr_scheduler_kwargs {"min_lr":0}',
        "--torch_compile_mode reduce-overhead",
        "--max_grad_norm 0",
    ],
)
def test_what_the_library_offers_is_not_refused(more):
    parse_run(["--model", "mlp", "--adam_l2", "false", "--lr_decay_epochs", "0", *more.split()], ROOT / "recipes")
