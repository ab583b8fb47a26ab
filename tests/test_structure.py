"""The structure of the package: few files at the top, none too long, short chains of imports, plain docstrings."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from test_layering import FILES, PACKAGE, ROOT, imports

TOP = {
    "__init__", "audio", "cli_parser", "files", "metrics", "network", "run_folder", "validation", "version",
}  # fmt: skip
COMMAND = sorted((ROOT / "hf_vivae_cli").glob("*.py"))
QUESTION_WORD = re.compile(r"(What|How|Which|Whether|Where|Whose|Who)\b")
# words that no documentation of this field uses, in docstrings
UNUSUAL = re.compile(r"\b(hears?|heard|heeds?|mends?|mended|anew|behind|beside|told|whoever|nobody)\b", re.IGNORECASE)


def docstrings(path: Path) -> list[str]:
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = (ast.get_docstring(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, nodes))
    return [text for text in texts if text]


def test_nine_files_at_the_top():
    assert {path.stem for path in PACKAGE.glob("*.py")} == TOP


def test_files_are_neither_long_nor_fragments():
    lines = {path: len(path.read_text().splitlines()) for path in FILES}
    assert [path for path, count in lines.items() if count > 600] == []
    assert sum(count < 50 for path, count in lines.items() if path.stem != "__init__") <= 12


@cache
def longest_chain(path: Path) -> tuple[str, ...]:
    """Return the longest chain of imports that begins with a file."""
    chains = []
    for _, module in imports(path):
        target = ROOT.joinpath(*module.split("."))
        file = next((f for f in (target.with_suffix(".py"), target / "__init__.py") if f.is_file()), None)
        if module.startswith("hf_vivae") and file and file != path:
            chains.append(longest_chain(file))
    return (str(path.relative_to(ROOT)), *max(chains, key=len, default=()))


def test_chains_of_imports_are_short():
    longest = max((longest_chain(path) for path in FILES), key=len)
    assert len(longest) <= 16, " -> ".join(longest)
    from_train = longest_chain(ROOT / "recipes" / "train.py")[1:]
    assert len(from_train) <= 13, " -> ".join(from_train)


@pytest.mark.parametrize("path", [*FILES, *COMMAND], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_docstring_opens_with_a_question_word(path):
    assert [text for text in docstrings(path) if QUESTION_WORD.match(text)] == []


def test_docstrings_use_the_words_of_the_field():
    text = " ".join(text for path in [*FILES, *COMMAND] for text in docstrings(path))
    assert 10_000 * len(UNUSUAL.findall(text)) / len(text.split()) < 5
