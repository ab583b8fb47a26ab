"""README's commands and claims are those of the code."""

import json
import re
import shlex
from dataclasses import fields

import numpy as np
import pytest
from runner import ROOT, TRAIN, flags, run, script
from typer.main import get_command

from hf_vivae.models import MODELS
from hf_vivae.training.recipes import parse_run, read_deviations
from hf_vivae_cli import app

README = (ROOT / "README.md").read_text()
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md")]
PAGES = [*TOP, ROOT / "recipes" / "README.md", *(ROOT / "docs").glob("*.md")]
FOLDERS = ("hf_vivae", "hf_vivae_cli", "recipes", "benchmarks", "model_cards", "tests", "docs", "demo")
RECIPES = ROOT / "recipes"
SWITCHES = read_deviations(RECIPES)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def train_commands() -> list[list[str]]:
    lines = [line.split("recipes/train.py", 1)[1] for block in blocks("bash") for line in block.splitlines()
             if "recipes/train.py" in line]  # fmt: skip
    return [shlex.split(line) for line in lines]


def test_readme_shows_every_way_to_start():
    assert len(train_commands()) == 4
    assert sum("python -m pytest" in block for block in blocks("bash")) == 1


def test_the_first_command_leaves_its_checkpoint_where_readme_loads_it():
    run_arguments, args = parse_run(train_commands()[0], RECIPES)
    assert (run_arguments.data, run_arguments.folds) == ("synthetic", [0])
    assert f'"{args.output_dir}/1-of-5"' in blocks("python")[0]


def test_the_lines_that_a_run_prints_load_its_checkpoint(tiny_vivae, tmp_path, capsys):
    argv = flags(tiny_vivae, tmp_path, "vit-32-30", "--num_train_epochs", "1")
    script(TRAIN).main(argv)
    printed = capsys.readouterr().out
    for name in ("results.json", "S01", "loss.png", "accuracy.png"):
        assert str(tmp_path) in printed
        assert name in printed
    lines = printed.split("Load it:\n")[1].strip()
    assert lines.splitlines()[:2] == blocks("python")[0].splitlines()[:2]
    scope = {}
    exec(lines, scope)
    scores = scope["classify"]({"array": np.sin(np.arange(20000) / 9), "sampling_rate": 44100})
    assert len(scores) == 6
    assert sum(item["score"] for item in scores) == pytest.approx(1, abs=1e-5)


def test_the_recipes_page_lists_every_script_recipe_and_switch():
    page = (RECIPES / "README.md").read_text()
    scripts = {f"`{path.name}`" for path in RECIPES.glob("*.py")}
    recipes = {f"`{path.parent.name}`" for path in RECIPES.glob("*/*.yaml")}
    switches = {f"| {switch.row} | `{name}` | {switch.notebook.rstrip('.')} |" for name, switch in SWITCHES.items()}
    for text in scripts | recipes | switches:
        assert text in page, text


def test_every_key_of_an_augmentation_has_a_row_with_its_limit_and_default():
    from hf_vivae.features.augmentation import LIMITS, Augmentation

    lines = (RECIPES / "README.md").read_text().split("## Augmentation")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    assert [row[0] for row in rows] == [f"`{field.name}`" for field in fields(Augmentation)]
    for field, (_, _, value, default) in zip(fields(Augmentation), rows, strict=True):
        assert json.loads(default) == field.default, field.name
        if field.name in LIMITS:
            limit, unit, _ = LIMITS[field.name]
            assert value == f"0 to {limit:g} {unit}", field.name


def test_readme_names_every_model_and_its_parameters():
    from tiny import PARAMETERS

    assert set(PARAMETERS) == set(MODELS)
    for name, count in PARAMETERS.items():
        assert f"`{name}`" in README
        assert f"{count:,}" in README


def test_readme_names_every_file_of_a_run(tiny_vivae, tmp_path):
    run(flags(tiny_vivae, tmp_path, "mlp", "--num_train_epochs", "1"))
    code = {"mlp.py", "features_waveform.py", "silence.py", ".lock"}  # the code, and the lock against other processes
    for path in (tmp_path / "S01").iterdir():
        assert path.is_dir() or path.name in code or f"`{path.name}`" in README, path.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_file_that_a_page_names_exists():
    names = rf"(?<![\w/.-])(?:(?:{'|'.join(FOLDERS)})/[\w./-]*\w|(?:[\w-]+/)*test_\w+\.py)"
    for page in PAGES:
        for name in re.findall(names, page.read_text()):
            exists = (ROOT / name).exists() or (ROOT / "tests" / name).exists() or name.startswith("recipes/found")
            assert exists, f"{page.name} names {name}"


def test_every_flag_that_a_page_names_exists():
    of_launchers = {"--standalone", "--nproc_per_node", "--cpu", "--num_processes", "--num_machines"}
    of_launchers |= {"--config_file", "--machine_rank", "--main_process_ip"}
    known = _known_flags() | of_launchers | {"--help", "--help_all", "--config", "--check"}
    for page in PAGES:
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9_]+", page.read_text()):
            assert flag in known, f"{page.name} names {flag}"


def _known_flags() -> set[str]:
    from transformers import HfArgumentParser

    from hf_vivae.ablation.plan import AblationArguments
    from hf_vivae.curve.plan import CurveArguments
    from hf_vivae.evaluation.arguments import make_parser as evaluate_parser
    from hf_vivae.hub.arguments import make_parser as push_parser
    from hf_vivae.reproduction.plan import StudyArguments
    from hf_vivae.search.search import SearchArguments
    from hf_vivae.training.recipes import run_parser

    attention = script(ROOT / "benchmarks" / "attention.py").AttentionArguments
    emogator = script(ROOT / "benchmarks" / "emogator.py").EmogatorBenchmarkArguments
    speed = script(ROOT / "benchmarks" / "speed.py").SpeedArguments
    growth = script(ROOT / "benchmarks" / "growth.py").GrowthArguments
    sounds = script(ROOT / "benchmarks" / "sounds.py").SoundsArguments
    recordings = script(ROOT / "benchmarks" / "recordings.py").RecordingsArguments
    benchmarks = (attention, emogator, speed, growth, sounds, recordings)
    classes = (StudyArguments, AblationArguments, CurveArguments, SearchArguments, *benchmarks)
    scripts = [evaluate_parser(), push_parser(), *map(HfArgumentParser, classes)]
    parsers = [run_parser(), *scripts]
    commands = get_command(app).commands.values()
    of_commands = {flag for command in commands for option in command.params for flag in option.opts}
    return of_commands | {flag for parser in parsers for action in parser._actions for flag in action.option_strings}
