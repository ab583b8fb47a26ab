"""Run folders of a study written by hand, with figures that a test can compute in its head, and rows of its tables."""

from pathlib import Path
from typing import Any

from tiny import CONFIGS

from hf_vivae.corpus import EMOTIONS
from hf_vivae.files import write_json, write_lines
from hf_vivae.models import build_config, build_feature_extractor
from hf_vivae.reporting.tables import Table
from hf_vivae.run_folder import write_predictions
from hf_vivae.version import __version__

CLIPS = {"train": 100, "validation": 20, "test": 40}
# accuracy after each of three epochs: the test clips are best at the second, and again at the third
TRAIN, VALIDATION, TEST = (0.4, 0.6, 0.8), (0.3, 0.4, 0.5), (0.25, 0.5, 0.5)
MAJORITY = {"train": 0.25, "validation": 0.15, "test": 0.2}
AUC = dict(zip(EMOTIONS, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), strict=True))


def scores(accuracy: float, loss: float, part: str) -> dict[str, Any]:
    """Those of `ClassificationScores`, without confusions."""
    return {
        "accuracy": accuracy,
        "uar": accuracy,
        "macro_f1": accuracy,
        "auc": AUC,
        "macro_auc": 0.75,
        "loss": loss,
        "n": CLIPS[part],
        "majority": {"label": "fear", "accuracy": MAJORITY[part]},
        "notes": [],
    }


def write_run(
    study: Path,
    place: str,
    model: str = "mlp",
    seed: int = 42,
    select_on: str = "validation",
    test: tuple[float, ...] = TEST,
    model_config: dict[str, Any] | None = None,
    record: dict[str, Any] | None = None,
    results: dict[str, Any] | None = None,
) -> Path:
    """A finished run folder, of three epochs unless its model is solved at once.

    Args:
        study: its output folder.
        place: of the run below `runs/`.
        model: a key of `MODELS`.
        seed: of the run.
        select_on: the clips that picked the epoch: the third by validation, the second by test.
        test: test accuracy after each epoch.
        model_config: fields that differ from the paper's.
        record: entries of `run.json` that shall differ; dictionaries are merged.
        results: entries of `results.json` that shall differ.
    """
    folder = study / "runs" / place
    solved = model == "logistic-regression"
    content: dict[str, Any] = {
        "run": {
            "model": model,
            "task": "emotion",
            "protocol": "random-80-20",
            "select_on": select_on,
            "loss_reduction": "mean",
            "as_coded": [],
        },
        "training": {
            "seed": seed,
            "data_seed": None,
            "adam_l2": True,
            "optim": "adamw_torch_fused",
            "weight_decay": 1e-6,
            "learning_rate": 2e-5,
            "lr_decay_epochs": 50,
            "lr_decay_steps": 0,
            "lr_decay_factor": 0.98,
            "lr_scheduler_type": "linear",
            "per_device_train_batch_size": 30,
            "gradient_accumulation_steps": 1,
            "num_train_epochs": 3.0,
        },
        "corpus": {"name": "synthetic", "clips": 160, "digest": "0123456789abcdef", "problems": []},
        "processes": 1,
        "environment": {"hf_vivae": __version__, "device": "cpu"},
        "finished": True,
        "seconds": 60.0,
        "peak_memory_mb": 512.0,
    }
    for key, value in (record or {}).items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    write_json(folder / "run.json", content)
    write_json(folder / "results.json", {**_results(model, seed, select_on, test, solved), **(results or {})})
    write_lines(folder / "history.jsonl", _solution() if solved else _history(select_on, test))
    rows = [{"file": "a.wav", "label": 0, "logits": [1.0] * 6, "fold": "random-80-20", "split": "test"}]
    write_predictions(folder, rows)
    (folder / "model.safetensors").touch()
    labels = dict(enumerate(EMOTIONS))
    build_config(model, id2label=labels, **(model_config or {})).save_pretrained(folder)
    build_feature_extractor(model).save_pretrained(folder)
    return folder


def _results(model: str, seed: int, select_on: str, test: tuple[float, ...], solved: bool) -> dict[str, Any]:
    epoch = test.index(max(test)) if select_on == "test" else 2
    parts = {"test": test[epoch], "validation": VALIDATION[epoch], "train": TRAIN[epoch]}
    if select_on == "test":
        del parts["validation"]
    return {
        "model": model,
        "data": "synthetic",
        "seed": seed,
        "fold": "random-80-20",
        "of_folds": 1,
        "labels": list(EMOTIONS),
        "selection": None if solved else {"on": select_on, "metric": "accuracy", "epoch": epoch + 1.0},
        "habits": ["epochs or settings are selected on the test clips"] if select_on == "test" else [],
        "reported": None,
        **{part: scores(accuracy, 1.5, part) for part, accuracy in parts.items()},
    }


def _solution() -> list[dict[str, Any]]:
    return [{"iterations": 100, "converged": False}]


def _history(select_on: str, test: tuple[float, ...]) -> list[dict[str, Any]]:
    entries = []
    for number, (train, validation, watched) in enumerate(zip(TRAIN, VALIDATION, test, strict=True), start=1):
        stamp = {"epoch": float(number), "step": 4 * number}
        loss = {"loss": 2 - 0.2 * number, "loss_sum": 8 - 0.8 * number, "accuracy": train}
        entries.append({**stamp, **loss, "clips_per_second": 100.0 * number})
        parts = {"eval": watched} if select_on == "test" else {"eval": validation, "test": watched}
        for prefix, accuracy in parts.items():
            figures = {"loss": 1.8 - 0.1 * number, "loss_sum": 3.6 - 0.2 * number, "accuracy": accuracy}
            entries.append({**stamp, **{f"{prefix}_{key}": value for key, value in figures.items()}})
    return [*entries, {"epoch": 3.0, "step": 12, "train_loss": 1.6, "train_runtime": 60.0}]


def write_study(study: Path) -> None:
    """All models as `paper` and `as_coded`, switches of each kind with the MLP, two patch sizes; small networks."""
    for model, config in CONFIGS.items():
        write_run(study, f"paper/{model}/seed42", model, model_config=config)
        select_on = "validation" if model == "logistic-regression" else "test"
        write_run(study, f"as_coded/{model}/seed42", model, select_on=select_on, model_config=config)
    reported = {"auc": {label: area / 2 for label, area in AUC.items()}, "macro_auc": 0.375, "how": "AUC of logits"}
    write_run(study, "as_coded/mlp/seed42", select_on="test", results={"reported": reported})
    write_run(study, "audit/mlp/full-scale", test=(0.25, 0.5, 0.75))
    write_run(study, "audit/mlp/one-split-off", test=(0.25, 0.5, 0.25))
    write_run(study, "audit/mlp/redrawn-split", results={"reported": {**reported, "how": "AUC on a redrawn split"}})
    summed = {"auc": AUC, "macro_auc": 0.75, "how": "losses summed over batches"}
    record = {"run": {"loss_reduction": "sum"}}
    write_run(study, "audit/mlp/summed-losses", record=record, results={"reported": summed})
    write_run(study, "patches/8-23", "vit-8-23", model_config=CONFIGS["vit-8-23"])
    patch = {**CONFIGS["vit-32-30"], "patch_size": [64, 345]}
    write_run(study, "patches/64-345", "vit-32-30", test=(0.0, 0.0, 0.25), model_config=patch)


# as in the files of the deviations: number, the paper's text and the practice of its notebook
DESCRIBED = {
    "full-scale": (12, "by the dataset's extremes", "by 32768"),
    "redrawn-split": (7, "on the test set", "on a split drawn again"),
    "summed-losses": (9, "losses", "sums over batches"),
    "one-split": (11, "one split", "the same"),
}


def rows(table: Table, **chosen) -> list[dict]:
    """Rows by column, those whose cells are the chosen ones."""
    found = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return [row for row in found if all(row[column] == value for column, value in chosen.items())]


def row(table: Table, **chosen) -> dict:
    """The only such row."""
    (found,) = rows(table, **chosen)
    return found
