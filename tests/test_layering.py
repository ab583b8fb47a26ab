"""Imports go one way: recipes -> training, evaluation -> models, corpus, splits, audio, metrics."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hf_vivae"
# room -> the rooms that it may import, besides `validation`; leaves import none but themselves
MAY_IMPORT = {
    "audio": {"containers", "quiet"},
    "containers": set(),
    "quiet": set(),
    "cpu": set(),
    "folds": set(),
    "speaker_folds": {"folds"},
    "protocols": {"folds", "speaker_folds"},
    "splits": {"folds", "protocols"},
    "metrics": set(),
    "models": set(),
    "corpus": {"audio", "disk", "text"},
    "evaluation": {
        "audio", "calibration", "corpus", "disk", "habits", "metrics", "models", "runs", "splits", "text",
        "trimming", "version",
    },
    "text": set(),
    "runs": {"disk"},
    "machine": {"corpus", "version"},
    "disk": set(),
    "stopping": {"flags"},
    "flags": set(),
    "habits": set(),
    "corpus_arguments": {"corpus"},
    "rescoring": {
        "collator", "corpus", "disk", "evaluation", "features", "habits", "machine", "models", "runs", "trained",
    },
    "prepared": {"arguments", "checkpoints", "corpus", "features", "machine", "splits"},
    "fold_training": {
        "adapting", "arguments", "calibration", "fitting", "habits", "machine", "models", "prepared",
        "probing", "publishing", "runs", "scoring", "setups", "splits", "trainer",
    },
    "setups": {
        "adapting", "arguments", "augmentation", "augmented", "backbones", "calibration", "checkpoint_checks",
        "checkpoints", "collator", "corpus", "extractors", "features", "loading", "metrics", "models", "prepared",
        "scoring", "spec_augment", "trainer", "wrapping",
    },
    "ablation": {
        "ablation_plan", "evaluation", "ingredients", "models", "prepared", "runs", "study", "study_folder",
        "training",
    },
    "search": {
        "arguments", "checkpoints", "corpus", "corpus_arguments", "disk", "evaluation", "fitting", "flags", "habits",
        "models", "parsing", "prepared", "runs", "setups", "splits", "trainer",
    },
    "augmentation": set(),
    "augmented": {"audio", "augmentation", "extractors", "features", "models"},
    "adapting": {"models"},
    "backbones": {"models"},
    "trimming": {"audio", "models"},
    "wrapping": {"calibration", "checkpoint_checks", "extractors", "loading", "models", "runs"},
    "trained": {"adapting", "checkpoint_checks", "checkpoints", "loading", "models", "wrapping"},
    "probing": {"logistic", "models", "trainer"},
    "arguments": {
        "adapting", "augmentation", "backbones", "corpus", "corpus_arguments", "flags", "habits", "models",
        "splits", "trimming",
    },
    "switches": {"flags", "models"},
    "parsing": {
        "arguments", "backbones", "disk", "flags", "habits", "models", "refusals", "runs", "splits", "switches",
    },
    "checkpoints": {"backbones", "converted", "corpus", "models"},
    "converted": {"corpus"},
    "extractors": {"models"},
    "classifier": {"audio", "checkpoints", "models", "stored_audio", "trained"},
    "stored_audio": set(),
    "loading": {"checkpoint_checks", "extractors", "models"},
    "collator": {"extractors", "models"},
    "logistic": {"models"},
    "features": {"audio", "corpus", "disk", "extractors", "models", "version"},
    "fitting": {"cpu", "logistic", "models", "probing", "runs", "stopping", "trainer"},
    "trainer": {"models", "progress"},
    "scoring": {"features", "habits", "metrics", "splits", "trainer"},
    "training": {
        "arguments", "checkpoints", "corpus", "disk", "fold_training", "prepared", "publishing", "runs",
        "scoring", "splits",
    },
    "licenses": {"backbones"},
    "templates": set(),
    "dataset_card": {"corpus", "evaluation", "folds", "protocols", "templates", "version"},
    "dataset_repo": {"corpus", "dataset_card", "disk", "features", "licenses", "runs", "splits"},
    "card_metadata": {"backbones", "checkpoints", "evaluation", "licenses", "models", "publication"},
    "card_facts": {"card_metadata", "models", "runs"},
    "card_scores": {"card_facts", "card_metadata", "evaluation", "models", "protocols", "publication", "runs"},
    "card": {
        "card_facts", "card_metadata", "card_scores", "corpus", "evaluation", "licenses", "publication",
        "templates",
    },
    "hub": {"corpus", "runs"},
    "publication": {"evaluation", "runs"},
    "publishing": {"arguments", "card", "hub", "models", "publication"},
    "work": {"arguments", "extractors", "models"},
    "plan": {"corpus", "corpus_arguments", "models", "parsing", "splits", "switches"},
    "study_folder": {"arguments", "plan", "runs", "scoring", "version"},
    "study": {
        "arguments", "corpus", "evaluation", "features", "flags", "parsing", "plan", "runs", "splits",
        "study_folder", "switches", "training", "work",
    },
    "version": set(),
    "validation": set(),
    "__init__": {"classifier", "corpus", "models", "splits", "version"},
    "ablation_plan": {"arguments", "backbones", "evaluation", "flags", "ingredients", "models", "parsing", "runs"},
    "checkpoint_checks": {"adapting", "audio", "models"},
    "ingredients": {"corpus", "evaluation", "models", "parsing"},
    "progress": {"evaluation", "runs"},
    "refusals": {"arguments", "backbones", "habits", "models"},
    "spec_augment": set(),
    "calibration": set(),
    "inference": {
        "adapting", "audio", "calibration", "checkpoint_checks", "checkpoints", "classifier", "collator", "corpus",
        "cpu", "disk", "evaluation", "extractors", "loading", "models", "runs", "stored_audio", "text",
    },
    "space": {"hub"},
}  # fmt: skip
LIBRARIES_OF_MODELS = {"torch", "torchaudio", "timm", "transformers", "numpy"}
HEAVY = {
    "torchaudio", "timm", "gradio", "matplotlib", "sklearn", "statsmodels", "audiomentations", "peft", "optuna",
    "ray", "sqlalchemy", "pandas",
}  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> list[tuple[ast.stmt, str]]:
    """Each import of a file with the module it names, relative ones as `hf_vivae...`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append((node, node.module))
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).with_suffix("").parts[: -node.level]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found += [(node, ".".join((*package, name))) for name in names]
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_the_rooms_below_it(path):
    for _, module in imports(path):
        parts = module.split(".")
        if parts[0] == "hf_vivae" and len(parts) > 1 and parts[1] not in (room(path), "validation"):
            assert parts[1] in MAY_IMPORT[room(path)], f"{path.name} imports {module}"
        assert parts[0] != "recipes", "nothing in the package knows the recipes"


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("*.py")), ids=lambda path: path.name)
def test_a_model_file_can_be_exported(path):
    for node, module in imports(path):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, "save_pretrained copies siblings of a model file, and nothing else"
        else:
            known = module.split(".")[0] in LIBRARIES_OF_MODELS | sys.stdlib_module_names
            assert known, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_where_they_are_used(path):
    for node, module in imports(path):
        if module.split(".")[0] in HEAVY:
            assert node.col_offset > 0, f"{path.name} imports {module} on top"


def test_recipes_are_no_package():
    assert not list((ROOT / "recipes").rglob("__init__.py"))


@pytest.mark.slow
def test_every_dependency_imports_in_this_environment():
    """A torch outside the bounds of pyproject.toml breaks torchaudio, torchvision or Trainer on import."""
    names = (
        "torch torchaudio torchvision transformers datasets evaluate accelerate timm sklearn huggingface_hub "
        "soundfile scipy numpy pyarrow matplotlib yaml requests tqdm filelock"
    )
    program = f"for name in {names.split()}: __import__(name)\nfrom transformers import Trainer, Wav2Vec2Model"
    subprocess.run([sys.executable, "-c", program], check=True)
