"""Plan of a reproduction: models, variants and seeds, each deviation alone, and patches."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..corpus.arguments import CorpusArguments
from ..files import read_yaml
from ..models import MODELS
from ..splits import SplitArguments
from ..training.arguments import RunArguments, VivaeTrainingArguments
from ..training.recipes import parse_run, read_deviations
from ..validation import UserError, check_choice
from .runs import OFF, VARIANTS

AUDITED = ("mlp", "vit-base", "wav2vec2")  # by default, each deviation is tried on the first that it concerns
REPORTING = {"auc_split", "auc_scores", "loss_reduction"}  # settings that change no training
NOISE_EPOCHS = 12  # after which the MLP classifies three quarters of the noise clips that train it correctly


@dataclass
class StudyArguments(CorpusArguments, SplitArguments):
    """Arguments of a reproduction: its runs and their clips."""

    models: list[str] | None = field(
        default=None, metadata={"help": f"Models to train, some of {', '.join(MODELS)}; all by default."}
    )
    variants: list[str] = field(
        default_factory=lambda: list(VARIANTS[:2]),
        metadata={
            "help": "Variants to train: paper (its text), as_coded (its notebook), tuned (selected on validation "
            "clips); the first two by default."
        },
    )
    seeds: list[int] = field(default_factory=lambda: [42], metadata={"help": "Seeds of split and training."})
    quick: bool = field(
        default=False,
        metadata={"help": "Train small networks for few epochs, minutes on two cores (reproduce_quick.yaml)."},
    )
    audit: bool = field(
        default=False,
        metadata={
            "help": "Train each deviation of recipes/as_coded alone, with every model of --models that it concerns "
            f"(without --models, with the first of {', '.join(AUDITED)}); and the redrawn split on pure noise."
        },
    )
    patches: list[str] = field(
        default_factory=list,
        metadata={"help": "Patch sizes of the ViT (mel bins,frames) to compare, such as 32,30 16,69 8,23."},
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder of the study; runs/<data>/study or study-quick by default."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for model in self.models or ():
            check_choice("--models", model, MODELS)
        if min(self.seeds) < 0:
            raise UserError(f"expected --seeds of at least 0, found {min(self.seeds)}; give others.")
        for variant in self.variants:
            check_choice("--variants", variant, VARIANTS)
        study = "study-quick" if self.quick else "study"
        self.output_dir = self.output_dir or str(Path("runs", self.folder_name, study))

    @property
    def output(self) -> Path:
        """Folder of the study."""
        return Path(self.output_dir)

    def audited(self, concerned: Sequence[str]) -> list[str]:
        """Return the models of this study that a deviation is tried on, out of those that it concerns."""
        if self.models is None:
            return [model for model in AUDITED if model in concerned][:1]
        return [model for model in self.models if model in concerned]


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study.

    Args:
        name: its folder in that of the study.
        settings: arguments of `recipes/train.py` that make it, as overrides of `parse_run`.
        arguments: of the run.
        training: arguments of its training.
        shares: name of the run whose training it shares, since its settings change only what is reported.
        apart: true if it needs a process of its own, since its memory is measured.
    """

    name: str
    settings: dict[str, Any]
    arguments: RunArguments
    training: VivaeTrainingArguments
    shares: str | None = None
    apart: bool = False


def plan_runs(study: StudyArguments, recipes: Path) -> list[PlannedRun]:
    """Return all runs of a study in the order of training: each before those that share its training.

    Raises:
        UserError: for patches that are not two numbers, and for settings that do not fit.
    """
    planner = _Planner(study, recipes)
    runs = [
        planner.run(f"{variant}/{model}/seed{seed}", model, variant, seed)
        for variant in study.variants
        for model in study.models or MODELS
        for seed in study.seeds
    ]
    runs += planner.audit() if study.audit else []
    runs += [planner.patch(patch) for patch in study.patches]
    return list({run.name: run for run in runs}.values())


class _Planner:
    def __init__(self, study: StudyArguments, recipes: Path) -> None:
        self.study, self.recipes, self.seed = study, recipes, study.seeds[0]
        self.quick: dict[str, dict[str, Any]] = read_yaml(recipes / "reproduce_quick.yaml") if study.quick else {}
        corpus = (*fields(CorpusArguments), *fields(SplitArguments))
        self.corpus = {f.name: getattr(study, f.name) for f in corpus}

    def run(self, name: str, model: str, recipe: str, seed: int, **settings) -> PlannedRun:
        changes = dict(self.quick.get(model, {}))
        if recipe == "tuned":
            changes.pop("learning_rate", None)  # its recipe is about the learning rate
            changes["select_on"] = "validation"  # else no epoch has scores for the tables
        config = {**changes.pop("model_config", {}), **settings.pop("model_config", {})}
        changes |= {"protocol": "random-80-20", "seed": seed, "watch_test": True, "model_config": config, **settings}
        return self._parse(f"runs/{name}", {"model": model, "recipe": recipe, **self.corpus, **changes})

    def _parse(self, name: str, settings: dict[str, Any]) -> PlannedRun:
        settings = {**settings, "output_dir": str(self.study.output / name)}
        return PlannedRun(name, settings, *parse_run([], self.recipes, settings))

    def audit(self) -> list[PlannedRun]:
        runs = []
        for deviation in read_deviations(self.recipes).values():
            for model in self.study.audited(deviation.models):
                base = self.run(f"paper/{model}/seed{self.seed}", model, "paper", self.seed)
                name = f"audit/{model}/{deviation.name}"
                if deviation.instead:
                    run = self.run(f"{name}{OFF}", model, "paper", self.seed, **deviation.instead)
                else:
                    run = self.run(name, model, "paper", self.seed, as_coded=[deviation.name])
                    run = replace(run, shares=base.name if deviation.settings.keys() <= REPORTING else None)
                runs += [base, run]
        return [*runs, self.noise()]

    def patch(self, text: str) -> PlannedRun:
        sizes = text.split(",")
        if len(sizes) != 2 or not all(size.isdecimal() and int(size) for size in sizes):
            raise UserError(
                f"expected --patches such as 32,30 16,69 (mel bins, frames; above 0), found {text!r}; correct it."
            )
        bins, frames = map(int, sizes)
        # all by the recipe of one ViT, so that only the sequence differs
        config = {"patch_size": [bins, frames]}
        run = self.run(f"patches/{bins}-{frames}", "vit-32-30", "paper", self.seed, model_config=config)
        return replace(run, apart=True)

    def noise(self) -> PlannedRun:
        """Return the paper's MLP, trained on pure noise and scored on its own test clips and on a redrawn split."""
        settings = {"model": "mlp", "data": "noise", "as_coded": ["redrawn-split"], "load_best_model_at_end": False}
        settings |= {"num_train_epochs": NOISE_EPOCHS, "watch_test": True, "seed": self.seed}
        return self._parse("noise/runs/audit/mlp/redrawn-split", settings)
