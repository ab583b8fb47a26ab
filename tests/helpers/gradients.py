"""Gradients of each step of trainings in one process or in several; run as a script with cases and a folder."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tiny import CONFIGS
from transformers import TrainerCallback

from hf_vivae.cli_parser import leave_processes
from hf_vivae.features.extraction import AudioDataCollator
from hf_vivae.models import build_feature_extractor, build_model
from hf_vivae.training.arguments import VivaeTrainingArguments
from hf_vivae.training.trainer import VivaeTrainer

GLOBAL_BATCH = 8


class Clips(torch.utils.data.Dataset):
    """Random clips with labels, or with probabilities of each label."""

    def __init__(self, count: int, mixed: bool) -> None:
        draw = torch.Generator().manual_seed(count)
        self.inputs = torch.randn(count, CONFIGS["mlp"]["num_samples"], generator=draw)
        self.labels = torch.randint(6, (count,), generator=draw)
        if mixed:
            self.labels = torch.rand(count, 6, generator=draw).softmax(-1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_values": self.inputs[index], "labels": self.labels[index]}


class Noted(TrainerCallback):
    """Keep the gradient of each step, after all processes have averaged theirs."""

    def __init__(self) -> None:
        self.gradients: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs) -> None:
        self.gradients.append(torch.cat([weight.grad.flatten().clone() for weight in model.parameters()]))


def train(
    folder: Path, clips: int, accumulated: int, mixed: bool = False, **arguments: Any
) -> dict[str, torch.Tensor]:
    """Return gradients `(steps, parameters)` of two epochs, perhaps from a checkpoint on, and the logged values."""
    resume = arguments.pop("resume", None)
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    per_process = GLOBAL_BATCH // accumulated // processes
    args = VivaeTrainingArguments(
        output_dir=str(folder), num_train_epochs=2, optim="sgd", learning_rate=0.1, max_grad_norm=0,
        per_device_train_batch_size=per_process, gradient_accumulation_steps=accumulated, eval_strategy="no",
        save_strategy="steps", save_steps=1, save_total_limit=None, load_best_model_at_end=False,
        logging_strategy="epoch", disable_tqdm=True, **arguments,
    )  # fmt: skip
    torch.manual_seed(0)
    noted = Noted()
    trainer = VivaeTrainer(
        model=build_model("mlp", **CONFIGS["mlp"]), args=args, train_dataset=Clips(clips, mixed),
        data_collator=AudioDataCollator(build_feature_extractor("mlp", num_samples=CONFIGS["mlp"]["num_samples"])),
        callbacks=[noted],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume and str(folder / resume))
    logged = [[entry[name] for name in ("loss", "loss_sum", "accuracy")] for entry in trainer.state.log_history[:-1]]
    return {"gradients": torch.stack(noted.gradients), "logged": torch.tensor(logged, dtype=torch.float64)}


def train_all(cases: list[dict[str, Any]], folder: Path) -> dict[str, torch.Tensor]:
    """Return the results of `train` for each case by its number; a case may resume the folder of an earlier one."""
    results = {}
    for number, case in enumerate(cases):
        case = dict(case)
        of = case.pop("of", number)
        results |= {f"{number} {name}": values for name, values in train(folder / str(of), **case).items()}
    return results


if __name__ == "__main__":
    VivaeTrainingArguments(output_dir=sys.argv[2]).device  # noqa: B018 - the library joins the processes here
    results = train_all(json.loads(sys.argv[1]), Path(sys.argv[2]))
    if torch.distributed.get_rank() == 0:
        save_file(results, Path(sys.argv[2]) / "gradients.safetensors")
    leave_processes()
