"""Loss, optimizer, schedule and arguments of `VivaeTrainer`."""

from types import SimpleNamespace

import pytest
import torch
from tiny import CONFIGS
from torch._dynamo.utils import counters
from transformers import default_data_collator

from hf_vivae.features.augmentation import Augmentation, AugmentedDataset
from hf_vivae.models import build_feature_extractor, build_model
from hf_vivae.training import fit
from hf_vivae.training.arguments import VivaeTrainingArguments
from hf_vivae.training.trainer import EarlyStopping, VivaeTrainer
from hf_vivae.validation import UserError


def trainer_of(model, tmp_path, **arguments):
    args = VivaeTrainingArguments(output_dir=str(tmp_path), disable_tqdm=True, **arguments)
    return VivaeTrainer(model=model, args=args, train_dataset=[None] * 100, eval_dataset=[None])


def test_labels_are_smoothed_in_training_alone(tmp_path):
    model = build_model("mlp", **CONFIGS["mlp"])
    trainer = trainer_of(model, tmp_path, label_smoothing_factor=0.1)
    inputs, labels = torch.randn(4, 2000), torch.tensor([0, 1, 2, 3])
    for training, smoothing in ((True, 0.1), (False, 0.0)):
        with torch.set_grad_enabled(training):
            expected = torch.nn.functional.cross_entropy(model(inputs).logits, labels, label_smoothing=smoothing)
            loss = trainer.compute_loss(model, {"input_values": inputs, "labels": labels})
        torch.testing.assert_close(loss, expected)


def test_adam_has_l2_on_all_parameters_as_in_the_paper(tmp_path):
    model = build_model("mlp", **CONFIGS["mlp"])
    trainer = trainer_of(model, tmp_path, adam_l2=True, weight_decay=0.1, learning_rate=0.5)
    optimizer = trainer.create_optimizer()
    assert type(optimizer) is torch.optim.Adam
    assert len(optimizer.param_groups) == 1
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.parameters()))


def test_the_learning_rate_steps_every_so_many_epochs(tmp_path):
    trainer = trainer_of(
        build_model("mlp", **CONFIGS["mlp"]), tmp_path,
        learning_rate=1.0, lr_decay_epochs=2, lr_decay_factor=0.5, per_device_train_batch_size=30,
    )  # fmt: skip
    scheduler = trainer.create_scheduler(1000, trainer.create_optimizer())
    rates = []
    for _ in range(17):  # 100 clips in batches of 30: 4 steps an epoch, 8 in two
        rates.append(scheduler.get_last_lr()[0])
        trainer.optimizer.step()
        scheduler.step()
    assert rates == 8 * [1.0] + 8 * [0.5] + [0.25]


def test_arguments_that_a_trainer_cannot_follow_alone_are_refused_and_others_are_followed(tmp_path):
    model = build_model("mlp", **CONFIGS["mlp"])
    with pytest.raises(UserError, match=r"^expected the weight of each label as class_weights, found only 'balanced'"):
        trainer_of(model, tmp_path, class_weights="balanced")
    trainer = trainer_of(model, tmp_path, early_stopping_patience=3)
    (callback,) = [one for one in trainer.callback_handler.callbacks if isinstance(one, EarlyStopping)]
    assert callback.early_stopping_patience == 3


def test_a_process_uses_one_of_several_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    args = VivaeTrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=30)
    assert (args.n_gpu, args.train_batch_size) == (1, 30)


def test_a_compiled_training_learns_the_same_and_is_compiled_again_for_the_last_batch_alone(tmp_path):
    generator = torch.Generator().manual_seed(0)
    clips = [
        {"input_values": torch.randn(2000, generator=generator), "labels": torch.tensor(clip % 6)}
        for clip in range(19)
    ]
    weights = []
    for backend in (None, "eager"):  # traced as by any backend, without the 10 s of a compiler
        torch.manual_seed(0)
        torch.compiler.reset()
        counters.clear()
        trainer = VivaeTrainer(
            model=build_model("mlp", **CONFIGS["mlp"]),
            args=VivaeTrainingArguments(
                output_dir=str(tmp_path), torch_compile_backend=backend, per_device_train_batch_size=8,
                learning_rate=1e-2, eval_strategy="no", save_strategy="no", load_best_model_at_end=False,
                report_to="none", disable_tqdm=True,
            ),
            train_dataset=clips,
            data_collator=default_data_collator,
        )  # fmt: skip
        trainer.train()
        weights.append(torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()]))
    assert counters["stats"]["unique_graphs"] == 2, "for batches of 8, and for the last ones of 3"
    torch.testing.assert_close(*weights)


def test_the_collator_of_an_extractor_is_the_default_and_another_one_stays(tmp_path):
    model, args = build_model("mlp", **CONFIGS["mlp"]), VivaeTrainingArguments(output_dir=str(tmp_path))
    extractor, clips = build_feature_extractor("mlp", num_samples=2000), {"eval_dataset": [None]}
    assert VivaeTrainer(model, args, processing_class=extractor, **clips).data_collator.extractor is extractor
    for trainer in (
        VivaeTrainer(model, args, list, processing_class=extractor, **clips),
        VivaeTrainer(model, args, data_collator=list, processing_class=extractor, **clips),
    ):
        assert trainer.data_collator is list


def test_a_training_on_a_cpu_names_what_would_be_faster(monkeypatch):
    def names(bf16: bool, waits: bool, has: bool, workers: int) -> list[str]:
        monkeypatch.setattr(fit, "WAITS_PASSIVELY", waits)
        monkeypatch.setattr(fit.cpu_attention, "has_bfloat16", lambda: has)
        args = SimpleNamespace(bf16=bf16, dataloader_num_workers=workers)
        sentences = " ".join(fit._faster_ways(SimpleNamespace(args=args, train_dataset=clips)))
        return [way for way in ("OMP_WAIT_POLICY=passive", "--bf16", "--dataloader_num_workers") if way in sentences]

    clips = AugmentedDataset.__new__(AugmentedDataset)
    clips._sound = Augmentation(shift_seconds=0.1)
    assert (
        names(bf16=True, waits=True, has=True, workers=1) == names(bf16=False, waits=True, has=False, workers=1) == []
    )
    assert names(bf16=False, waits=False, has=True, workers=0) == [
        "OMP_WAIT_POLICY=passive", "--bf16", "--dataloader_num_workers",
    ]  # fmt: skip
    clips._sound = Augmentation(time_masks=0)
    assert names(bf16=True, waits=True, has=True, workers=0) == []
