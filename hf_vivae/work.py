"""How much arithmetic a training takes, to tell how long a study still runs."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from .arguments import RunArguments, VivaeTrainingArguments
from .extractors import matching_extractor
from .models import MODELS, LogisticRegressionForAudioClassification, build_config

START = 2e12  # floating-point operations that pass while a run reads clips and writes its folder: seconds of two cores


def training_work(run: RunArguments, args: VivaeTrainingArguments, clips: int) -> float:
    """Floating-point operations of a run of a model of `MODELS`, about: a step is three forward passes.

    Args:
        run: what is trained.
        args: how long.
        clips: of the corpus; about a third of them is scored after each epoch.
    """
    with torch.device("meta"):
        model = MODELS[run.model].model_class(build_config(run.model, **run.model_config))
        if isinstance(model, LogisticRegressionForAudioClassification):
            return START + 2.0 * model.num_parameters() * clips * 3 * model.config.max_iterations
        inputs = torch.empty(1, *_input_shape(run.model, model.config))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(inputs)
    return START + counter.get_total_flops() * clips * (1 + args.num_train_epochs * (3 * 0.8 + 0.3))


def _input_shape(name: str, config) -> tuple[int, ...]:
    extractor = matching_extractor(name, config)
    if extractor.model_input_names[0] == "input_values":
        return (extractor.num_samples,)
    return (1, extractor.num_mel_bins, extractor.num_frames)
