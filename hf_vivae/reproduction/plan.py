"""Which runs a study takes: models, variants and seeds, switches one by one, patches."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..corpus.arguments import CorpusArguments
from ..files import read_yaml
from ..models import MODELS
from ..splits import SplitArguments
from ..training.recipes import Deviation, as_flags, read_switches
from ..validation import UserError, check_choice

VARIANTS = ("paper", "as_coded", "tuned")
AUDITED = ("mlp", "vit-base", "wav2vec2")  # by default, each switch is tried on the first of them that it concerns
REPORTING = {"auc_split", "auc_scores", "loss_reduction"}  # settings that change no training
NOISE_EPOCHS = 12  # after which the MLP is right on three quarters of the noise that it is trained on


@dataclass
class StudyArguments(CorpusArguments, SplitArguments):
    """What a study trains, on which clips."""

    models: list[str] | None = field(default=None, metadata={"help": f"Some of {', '.join(MODELS)}; all by default."})
    variants: list[str] = field(
        default_factory=lambda: list(VARIANTS[:2]),
        metadata={
            "help": "paper (as described), as_coded (as the notebook does it), tuned; the first two by default."
        },
    )
    seeds: list[int] = field(default_factory=lambda: [42], metadata={"help": "Of split and training."})
    quick: bool = field(
        default=False, metadata={"help": "Minutes on two cores: few epochs, small networks (reproduce_quick.yaml)."}
    )
    audit: bool = field(
        default=False,
        metadata={
            "help": "Each switch of recipes/as_coded alone, with every model of --models that it concerns (without "
            f"--models, with the first of {', '.join(AUDITED)}); and the redrawn split on pure noise."
        },
    )
    patches: list[str] = field(
        default_factory=list, metadata={"help": "Patch sizes of the ViT to compare, such as 32,30 16,69 8,23."}
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder of the study; runs/<data>/study, or study-quick, if absent."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for model in self.models or ():
            check_choice("--models", model, MODELS)
        if min(self.seeds) < 0:
            raise UserError(f"expected --seeds of at least 0, found {min(self.seeds)}; give others.")
        for variant in self.variants:
            check_choice("--variants", variant, VARIANTS)
        self.output_dir = self.output_dir or str(Path("runs", self.data, "study-quick" if self.quick else "study"))

    @property
    def output(self) -> Path:
        """Folder of the study."""
        return Path(self.output_dir)

    def audited(self, concerned: Sequence[str]) -> list[str]:
        """The models of this study that a switch is tried on, out of those that it concerns."""
        if self.models is None:
            return [model for model in AUDITED if model in concerned][:1]
        return [model for model in self.models if model in concerned]


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study.

    Args:
        name: its folder in that of the study.
        argv: flags of `recipes/train.py` that make it.
        shares: the run whose training it shares, since its settings change nothing in it.
        apart: whether it needs a process of its own, since its memory is measured.
    """

    name: str
    argv: list[str]
    shares: str | None = None
    apart: bool = False


def plan_runs(study: StudyArguments, recipes: Path) -> list[PlannedRun]:
    """All runs of a study in the order of training: each before those that share its training.

    Raises:
        ValueError: for patches that are no two numbers.
    """
    planner = _Planner(study, recipes)
    planned = [
        planner.run(f"{variant}/{model}/seed{seed}", model, variant, seed)
        for variant in study.variants
        for model in study.models or MODELS
        for seed in study.seeds
    ]
    planned += planner.audit() if study.audit else []
    planned += [planner.patch(*_parse_patch(patch)) for patch in study.patches]
    return list({run.name: run for run in planned}.values())


class _Planner:
    def __init__(self, study: StudyArguments, recipes: Path) -> None:
        self.study, self.seed = study, study.seeds[0]
        self.switches = read_switches(recipes)
        self.quick: dict[str, dict[str, Any]] = read_yaml(recipes / "reproduce_quick.yaml") if study.quick else {}
        chosen = {
            f.name: getattr(study, f.name)
            for f in (*fields(CorpusArguments), *fields(SplitArguments))
            if getattr(study, f.name) != f.default
        }
        self.corpus = as_flags({"data": study.data, **chosen})

    def run(self, name: str, model: str, variant: str, seed: int, **settings) -> PlannedRun:
        changes = dict(self.quick.get(model, {}))
        if variant == "tuned":
            changes.pop("learning_rate", None)  # which is what its recipe is about
        config = {**changes.pop("model_config", {}), **settings.pop("model_config", {})}
        changes |= {"protocol": "random-80-20", "seed": seed, "watch_test": True, "model_config": config or None}
        changes |= {**settings, "output_dir": str(self.study.output / "runs" / name)}
        return PlannedRun(f"runs/{name}", ["--model", model, "--recipe", variant, *self.corpus, *as_flags(changes)])

    def audit(self) -> list[PlannedRun]:
        planned = []
        for switch in self.switches.values():
            for model in self.study.audited(switch.models):
                base = self.run(f"paper/{model}/seed{self.seed}", model, "paper", self.seed)
                planned += [base, self._switched(base, model, switch)]
        return [*planned, self.noise()]

    def _switched(self, base: PlannedRun, model: str, switch: Deviation) -> PlannedRun:
        name = f"audit/{model}/{switch.name}"
        if switch.instead:
            return self.run(f"{name}-off", model, "paper", self.seed, **switch.instead)
        run = self.run(name, model, "paper", self.seed, as_coded=[switch.name])
        return PlannedRun(run.name, run.argv, base.name if switch.settings.keys() <= REPORTING else None)

    def patch(self, bins: int, frames: int) -> PlannedRun:
        # all by the recipe of one ViT, so that nothing but the sequence differs
        config = {**self.quick.get("vit-32-30", {}).get("model_config", {}), "patch_size": [bins, frames]}
        run = self.run(f"patches/{bins}-{frames}", "vit-32-30", "paper", self.seed, model_config=config)
        return PlannedRun(run.name, run.argv, apart=True)

    def noise(self) -> PlannedRun:
        """The report's MLP memorises pure noise and is scored on its own test clips and on a redrawn split."""
        name = "noise/runs/audit/mlp/redrawn-split"
        settings = {"load_best_model_at_end": False, "num_train_epochs": NOISE_EPOCHS, "watch_test": True}
        settings |= {"seed": self.seed, "output_dir": str(self.study.output / name)}
        return PlannedRun(
            name, ["--model", "mlp", "--data", "noise", "--as_coded", "redrawn-split", *as_flags(settings)]
        )


def _parse_patch(text: str) -> Sequence[int]:
    sizes = text.split(",")
    if len(sizes) != 2 or not all(size.isdecimal() and int(size) for size in sizes):
        raise UserError(
            f"expected --patches such as 32,30 16,69 (mel bins, frames; above 0), found {text!r}; correct it."
        )
    return [int(size) for size in sizes]
