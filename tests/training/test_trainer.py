"""What the trainer adds to the library's: loss, optimiser, schedule."""

import torch
from tiny import CONFIGS

from hf_vivae.models import build_model
from hf_vivae.training.arguments import VivaeTrainingArguments
from hf_vivae.training.trainer import VivaeTrainer


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


def test_adam_has_l2_on_all_parameters_as_the_report(tmp_path):
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
