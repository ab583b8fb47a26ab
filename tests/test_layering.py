"""Imports go one way: a room imports only rooms of lower lines."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hf_vivae"
# a room imports rooms of lower lines, and none of its own line
LAYERS = [
    {"validation", "version"},
    {"audio", "files", "metrics", "network", "models", "splits", "reporting"},
    {"annotations"},
    {"corpus", "run_folder", "cli_parser"},
    {"features", "exploration"},
    {"checkpoints"},
    {"training", "evaluation", "inference"},
    {"reproduction", "ablation", "curve", "search", "hub", "timelines", "embeddings"},
]
LINES = {name: line for line, rooms in enumerate(LAYERS) for name in rooms} | {"__init__": len(LAYERS)}
LIBRARIES_OF_MODELS = {"torch", "torchaudio", "timm", "transformers", "numpy", "opensmile"}
HEAVY = {
    "torchaudio", "timm", "gradio", "matplotlib", "sklearn", "statsmodels", "audiomentations", "peft", "optuna",
    "ray", "sqlalchemy", "pandas", "opensmile",
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
            base = ".".join((*package, *([node.module] if node.module else [])))
            names = [f"{base}.{alias.name}" for alias in node.names]
            found += [(node, name if is_module(name) else base) for name in names]
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_of_lower_lines(path):
    for _, module in imports(path):
        own, parts = room(path), module.split(".")
        assert parts[0] != "recipes", "nothing in the package knows the recipes"
        if parts[0] == "hf_vivae" and len(parts) > 1 and parts[1] != own:
            assert LINES[parts[1]] < LINES[own], f"{path.name} imports {module}"


def test_no_file_imports_itself_through_others():
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES}
    graph = {}
    for path in FILES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {module for _, module in imports(path) if module in modules}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("[!_]*.py")), ids=lambda path: path.name)
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
