"""One fold: a model is trained on its training clips and scored on all parts, into a run folder of its own."""

import copy
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from transformers import PreTrainedModel

from . import machine, runs
from .adapting import ADAPTER
from .arguments import RunArguments, VivaeTrainingArguments
from .calibration import keep_temperature
from .fitting import drop_checkpoints_but_one, fit
from .habits import marks
from .models.probe import ProbeForAudioClassification
from .prepared import Prepared, fold_parts, fold_record, identity, run_record
from .probing import refit
from .publishing import Publisher
from .scoring import predict_parts, report_scores, score_rows
from .setups import make_trainer, set_up
from .splits import Fold
from .trainer import VivaeTrainer

if TYPE_CHECKING:
    from peft import PeftModel

logger = logging.getLogger(__name__)


def train_fold(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: Prepared,
    fold: Fold,
    folder: Path,
    checkpoint: Path | None,
    publisher: Publisher | None = None,
) -> dict[str, Any]:
    """Train on one fold into its run folder, and score what was selected once; the content of its `results.json`.

    Args:
        run: what to train on what.
        args: how to train.
        prepared: the corpus.
        fold: its clips of each part.
        folder: of the run; a finished one is not trained again.
        checkpoint: what the model starts from; None for random weights.
        publisher: of its checkpoints while it trains.

    Raises:
        ValueError: where another process trains in the folder, or it holds another run.
    """
    args = copy.copy(args)
    # Trainer would push its pickled arguments, and writes them beside each checkpoint, the token with them
    args.output_dir, args.push_to_hub, args.hub_token = str(folder), False, None
    with runs.claim(folder) if args.process_index == 0 else nullcontext():
        record = fold_record(run_record(run, args, prepared), prepared, fold)
        runs.check_same_run(folder, record)
        # with 1, the library deletes the last checkpoint before the test clips are predicted, and a run that is killed
        # then would have to train again
        keeps_one = args.save_total_limit == 1
        if keeps_one:
            args.save_total_limit = 2
        results = runs.finished_results(folder)
        if results is not None:
            logger.warning("%s is finished and not trained again; its scores follow.", folder)
        else:
            results = _train(run, args, prepared, fold, folder, checkpoint, record, publisher)
        if keeps_one and args.should_save:
            drop_checkpoints_but_one(folder, args.load_best_model_at_end)
        return results


def _train(
    run: RunArguments,
    args: VivaeTrainingArguments,
    prepared: Prepared,
    fold: Fold,
    folder: Path,
    checkpoint: Path | None,
    record: dict[str, Any],
    publisher: Publisher | None,
) -> dict[str, Any]:
    started = time.perf_counter()
    machine.reset_peak_memory()
    parts = fold_parts(fold, run.select_on)
    setup = set_up(run, args, prepared, parts, checkpoint)
    trainer = make_trainer(run, args, prepared, parts, setup)
    setattr(setup.model.config, runs.CORPUS_FIELD, prepared.corpus.name)
    if args.should_save:
        runs.write_json(folder / "run.json", record)
    if publisher:
        trainer.add_callback(publisher.while_training(setup.extractor, record))
    chosen = fit(trainer, folder)
    if setup.lora and run.lora_save == "merged":
        setup.lora.merge_and_unload()  # in place; what is scored is the model that is saved
    rows = _predict(trainer, setup.features, fold.name, parts, prepared)
    results = {
        **identity(run, args, prepared),
        "fold": fold.name,
        "selection": chosen and {"on": run.select_on, **chosen},
        "habits": marks(run, args.eval_dropout, selected=chosen is not None),
        "reported": report_scores(run, rows, prepared.label_names, args.seed),
        **score_rows(rows, prepared.label_names),
    }
    if args.should_save:
        keep_temperature(trainer.model.config, rows)
        _save_model(trainer.model, setup.lora if run.lora_save == "adapter" else None, folder)
        setup.extractor.save_pretrained(folder)
        runs.write_predictions(folder, rows)
        spent = {"seconds": time.perf_counter() - started, "peak_memory_mb": machine.peak_memory_mb()}
        runs.write_json(folder / "run.json", record | {"finished": True, **spent})
        runs.write_json(folder / "results.json", results)
    trainer.accelerator.wait_for_everyone()
    return results


def _save_model(model: PreTrainedModel, adapter: "PeftModel | None", folder: Path) -> None:
    if adapter is None:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
        adapter.save_pretrained(folder / ADAPTER)


def _predict(
    trainer: VivaeTrainer, features: Dataset, fold: str, parts: dict[str, Sequence[int]], prepared: Prepared
) -> list[dict[str, Any]]:
    described = prepared.described, prepared.labels
    model = trainer.model
    if not (isinstance(model, ProbeForAudioClassification) and model.config.refit and "validation" in parts):
        return predict_parts(trainer, features, fold, parts, *described)
    # a probe learns from its validation clips too, once they have chosen and been predicted
    rows = predict_parts(trainer, features, fold, {"validation": parts["validation"]}, *described)
    refit(trainer, features.select(sorted((*parts["train"], *parts["validation"]))))
    return rows + predict_parts(trainer, features, fold, {part: parts[part] for part in ("train", "test")}, *described)
