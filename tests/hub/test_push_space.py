"""A Space: the files of its repository, which serve the page without others."""

import subprocess
import sys

import pytest
from checkpoints_of import write_checkpoint
from loopback_hub.server import WRITE_TOKEN
from runner import ROOT, push

from hf_vivae.hub.space import PACKAGE, requirements, space_files

pytestmark = pytest.mark.hub


def test_a_space_is_pushed_with_this_package(hub, tmp_path):
    argv = ["--space", "tester/one", "tester/two", "--repo", "tester/demo", "--yes"]
    (printed,) = push(hub, [argv])
    assert f"pushed      {hub.url}/spaces/tester/demo/commit/" in printed
    repo = hub.store.repos["space", "tester/demo"]
    assert repo.private
    files = repo.find("main").files
    code = {file.relative_to(PACKAGE.parent).as_posix() for file in PACKAGE.rglob("*.py")}
    others = {"app.py", "README.md", "checkpoints.txt", "requirements.txt"}
    assert files.keys() >= code | others | {"hf_vivae/corpus/manifest.csv"}
    assert not any("__pycache__" in name or name.startswith("/") for name in files)
    read = {name: hub.store.blobs[files[name]].decode() for name in others}
    assert read["checkpoints.txt"] == "tester/one\ntester/two\n"
    assert "models:\n- tester/one\n- tester/two\n" in read["README.md"]
    assert "sdk: gradio\n" in read["README.md"]
    assert read["requirements.txt"].splitlines() == requirements()


def test_requirements_have_the_page_and_no_tests():
    names = {line.partition(">")[0].partition("=")[0].partition("<")[0] for line in requirements()}
    assert {"gradio", "torch", "transformers"} <= names
    assert not {"pytest", "ray", "selenium", "hf_vivae"} & names


def test_the_files_of_a_space_can_be_imported_where_nothing_else_of_this_repository_is(hub, tmp_path):
    space = tmp_path / "space"
    for name, content in space_files(ROOT / "demo", ["tester/one"]).items():
        (space / name).parent.mkdir(parents=True, exist_ok=True)
        (space / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    program = "import app, hf_vivae; print(app.CHECKPOINTS, hf_vivae.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(space)!r}); {program}"],
        capture_output=True, text=True, cwd=tmp_path, env=hub.environment(tmp_path / "home", WRITE_TOKEN),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["['tester/one']", str(space / "hf_vivae" / "__init__.py")]


def test_a_folder_is_no_checkpoint_of_a_space(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=r"expected the Hub id of a model .* push the model first"):
        space_files(ROOT / "demo", [str(folder)])
