"""Every command that a page or a script shows is parsed by that script, without being run."""

import ast
import re
import shlex
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
from runner import ROOT, script

RECIPES = ROOT / "recipes"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "AGENTS.md",
    RECIPES / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SCRIPTS = [*sorted(RECIPES.glob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))]
YAMLS = sorted(RECIPES.rglob("*.yaml"))
CALL = re.compile(r"(?:python|accelerate|torchrun)\b[^\n`]*?(?:recipes|benchmarks)/(\w+)\.py(?![\w.])([^\n`]*)")
REST = "..."  # stands for flags that are shown elsewhere


def calls(text: str, place: Path) -> list[tuple[str, list[str], str]]:
    """Script, flags and place of each command in a text; variables of its loops and assignments have a value."""
    text = text.replace("\\\n", " ")
    values = dict(re.findall(r'^(\w+)="(.*)"$', text, re.MULTILINE))
    values |= dict(re.findall(r"^for (\w+) in (\S+)", text, re.MULTILINE))
    found = []
    for name, line in CALL.findall(text):
        # an assignment escapes its quotes, and the shell splits what it stands for without looking at them
        words = [values[word[1:]].replace("\\", "").split(" ") if word.startswith("$") else [word]
                 for word in shlex.split(line, comments=True)]  # fmt: skip
        found.append((name, [*chain(*words)], str(place.relative_to(ROOT))))
    return [call for call in found if call[1] != [REST]]


def commands() -> list[tuple[str, list[str], str]]:
    found = [call for page in PAGES for call in calls(page.read_text(), page)]
    found += [call for file in SCRIPTS for call in calls(ast.get_docstring(ast.parse(file.read_text())), file)]
    return found + [call for file in YAMLS for call in calls(comments(file), file)]


def comments(file: Path) -> str:
    """Those of a YAML; what is indented by more than one command continues the line before."""
    lines = [line[1:] for line in file.read_text().splitlines() if line.startswith("#")]
    return re.sub(r"\n {3,}(?=--)", " ", "\n".join(lines)).replace("   (", " # (")


COMMANDS = commands()


def parsers() -> dict[str, Callable[[list[str]], object]]:
    """Return the parser of each script by its name."""
    from hf_vivae.ablation.plan import plan_ablation
    from hf_vivae.cli_parser import parse_flags, refuse_unknown
    from hf_vivae.curve.plan import plan_curve
    from hf_vivae.evaluation.arguments import parse_evaluation
    from hf_vivae.hub.arguments import parse_push
    from hf_vivae.models.backbones import recipe_file
    from hf_vivae.reproduction.plan import StudyArguments
    from hf_vivae.search.search import check_searchable, parse_search
    from hf_vivae.search.space import read_space
    from hf_vivae.training.recipes import parse_folds, parse_run

    paths = {file.stem: file for file in SCRIPTS}

    def of_parser(name: str) -> Callable[[list[str]], object]:
        def parse(argv: list[str]) -> object:
            arguments, unknown = script(paths[name]).make_parser().parse_known_args(argv)
            refuse_unknown(unknown, vars(arguments))
            return arguments

        return parse

    def of_class(name: str, arguments: str) -> Callable[[list[str]], object]:
        return lambda argv: parse_flags(getattr(script(paths[name]), arguments), argv, "")

    def search(argv: list[str]) -> object:
        arguments, template = parse_search(argv, RECIPES)
        check_searchable(template.run, template.args)
        return arguments.space or read_space(recipe_file(RECIPES / "search", template.run.model))

    def train(argv: list[str]) -> object:
        # `found` is a recipe that docs/search.md shows how to make
        return parse_folds(argv, RECIPES) or parse_run(
            [word if word != "found" else "tuned" for word in argv], RECIPES
        )

    return {
        "train": train,
        "ablate": lambda argv: plan_ablation(argv, RECIPES),
        "curve": lambda argv: plan_curve(argv, RECIPES),
        "search": search,
        "reproduce": lambda argv: parse_flags(StudyArguments, argv, ""),
        "evaluate": parse_evaluation,
        "push": parse_push,
        "export": of_parser("export"),
        "recordings": of_parser("recordings"),
        "sounds": of_class("sounds", "SoundsArguments"),
        "explore": of_class("explore", "ExploreArguments"),
        "training": of_class("training", "BenchmarkArguments"),
        "attention": of_class("attention", "AttentionArguments"),
        "emogator": of_class("emogator", "EmogatorBenchmarkArguments"),
        "speed": of_class("speed", "SpeedArguments"),
        "gpu": of_class("gpu", "GpuBenchmarkArguments"),
        "growth": of_class("growth", "GrowthArguments"),
    }


def test_every_script_has_a_command_somewhere():
    assert {name for name, _, _ in COMMANDS} == {file.stem for file in SCRIPTS}
    shown = {place for _, _, place in COMMANDS}
    assert {str(file.relative_to(ROOT)) for file in SCRIPTS} <= shown, "each script shows how it is called"
    assert {"README.md", "recipes/README.md", "docs/tuned.md", "recipes/ablation/encoder.yaml"} <= shown


@pytest.mark.parametrize(
    ("name", "argv", "place"), COMMANDS, ids=[f"{place}: {name} {shlex.join(argv)}" for name, argv, place in COMMANDS]
)
def test_commands_are_understood(name, argv, place, monkeypatch):
    # a command is as correct where the extra classic is not installed
    monkeypatch.setattr("hf_vivae.training.argument_checks.check_opensmile", lambda model: None)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # as Python does for a script, which may import its neighbour
    parsers()[name](argv)


def test_the_file_of_ingredients_that_shows_a_command_is_the_one_that_it_reads():
    from hf_vivae.models.backbones import recipe_file

    for name, argv, place in COMMANDS:
        if place.startswith("recipes/ablation"):
            assert name == "ablate"
            model = argv[argv.index("--model") + 1]
            assert recipe_file(RECIPES / "ablation", model) == ROOT / place


def test_commands_are_found_in_all_their_shapes():
    text = (
        "`python recipes/explore.py --data noise`\n"
        'quick="--data synthetic --model_config {\\"layers\\":2}"\n'
        "for protocol in a b; do\n  python recipes/train.py $quick --protocol $protocol # and so on\ndone\n"
        "python3 -m venv x && accelerate launch recipes/train.py \\\n  --model mlp\n"
        "torchrun --nproc_per_node 2 recipes/train.py ...\n`recipes/train.py --push_to_hub`\n"
    )
    assert [(name, argv) for name, argv, _ in calls(text, ROOT / "x")] == [
        ("explore", ["--data", "noise"]),
        ("train", ["--data", "synthetic", "--model_config", '{"layers":2}', "--protocol", "a"]),
        ("train", ["--model", "mlp"]),
    ]
