"""An environment whose compiled packages are absent or do not load is reported in one sentence by every command."""

import gc
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from runner import ROOT, TRAIN

from hf_vivae import version
from hf_vivae.version import explained_imports
from hf_vivae_cli.app import RECIPES

COMMANDS = ("predict", "timeline", "explain", "export", "demo")
# package -> what its import raised in environments that were met, with its first words
RAISED = {
    "torch": ("OSError", "libcudart.so.13: cannot open shared object file: No such file or directory"),
    "torchaudio": ("OSError", "Could not load this library: libtorchaudio.so"),
    "torchvision": ("RuntimeError", "operator torchvision::nms does not exist"),
    "transformers": ("ImportError", "huggingface-hub>=1.3.0,<3.0 is required, but found huggingface-hub==0.30.0."),
}
# runs scripts and commands one after the other; prints how each has ended
PROGRAM = """
import json, runpy, sys
from hf_vivae_cli import app

def ending(start):
    try:
        start()
    except BaseException as error:
        return [type(error).__name__, str(error)]

scripts, commands = json.load(sys.stdin)
for script in scripts:
    sys.argv = [script]
    print(json.dumps(ending(lambda: runpy.run_path(script, run_name="__main__"))))
for words in commands:
    print(json.dumps(ending(lambda: app(words))))
"""


def break_package(folder: Path, name: str) -> dict[str, str]:
    """Write a package that raises as the real one did; the variables of a process that takes it for the real one."""
    kind, message = RAISED[name]
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(f"raise {kind}({message!r})\n")
    return os.environ | {"PYTHONPATH": str(folder)}


def sentence_of(text: str, name: str) -> None:
    """Check the sentence: the versions, which package does not load and why, and a command that repairs it."""
    kind, message = RAISED[name]
    assert text.startswith("error: expected packages that load together, found torch 2.")
    assert f"of which {name} does not load ({kind}: {message}" in text
    for package in RAISED:
        assert f"{package} " in text
    command = text.rpartition("repair with: ")[2]
    assert f"-m pip install --force-reinstall torch torchaudio torchvision transformers -c {ROOT}" in command
    assert text.count("\n") == 1, "one line"


@pytest.mark.parametrize(
    ("user", "loaded", "expected", "waits"),
    [
        ({}, False, {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "4000"}, True),
        ({"OMP_WAIT_POLICY": "active"}, False, {"OMP_WAIT_POLICY": "active"}, True),
        ({"GOMP_SPINCOUNT": "1"}, True, {"GOMP_SPINCOUNT": "1"}, True),
        ({}, True, {}, False),
    ],
)
def test_threads_wait_passively_unless_the_user_decides_or_torch_is_loaded(user, loaded, expected, waits, monkeypatch):
    for name in version.WAIT_POLICY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", os.environ | user)
    monkeypatch.setattr(sys, "modules", {name: module for name, module in sys.modules.items() if name != "torch"})
    if loaded:
        sys.modules["torch"] = sys
    assert runpy.run_path(version.__file__)["WAITS_PASSIVELY"] == waits
    assert {name: os.environ[name] for name in version.WAIT_POLICY if name in os.environ} == expected


def test_the_policy_is_set_before_torch_is_loaded():
    program = "import hf_vivae, os, torch; print(os.environ['OMP_WAIT_POLICY'], hf_vivae.version.WAITS_PASSIVELY)"
    environment = {name: value for name, value in os.environ.items() if name not in version.WAIT_POLICY}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout == "passive True\n", done.stderr


@pytest.mark.parametrize("name", RAISED)
def test_a_script_ends_with_one_sentence_where_a_package_does_not_load(name, tmp_path):
    argv = [sys.executable, str(TRAIN), "--model", "mlp", "--data", "synthetic"]
    done = subprocess.run(argv, capture_output=True, text=True, env=break_package(tmp_path, name))
    assert (done.returncode, done.stdout) == (1, "")
    sentence_of(done.stderr, name)


def test_a_package_that_is_absent_is_missed_at_the_start(tmp_path):
    """Not when the first clip of another rate is resampled."""
    program = "import runpy, sys; sys.modules['torchaudio'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program, str(TRAIN)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "of which torchaudio does not load (ModuleNotFoundError: " in done.stderr
    assert done.stderr.count("\n") == 1


def test_every_script_and_command_ends_so(tmp_path):
    scripts = sorted(map(str, (ROOT / "recipes").glob("*.py")))
    commands = [*([name] for name in RECIPES), *([name, "a", "b"] for name in COMMANDS)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps([scripts, commands]), capture_output=True, text=True,
        env=break_package(tmp_path, "torch"), cwd=tmp_path,
    )  # fmt: skip
    endings = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(endings) == len(scripts) + len(commands), done.stderr
    for what, (kind, message) in zip([*scripts, *commands], endings, strict=True):
        assert kind == "BrokenEnvironment", what
        assert "of which torch does not load (OSError: libcudart" in message, what


def test_only_the_first_process_of_several_says_it(tmp_path):
    environment = break_package(tmp_path, "torch") | {"RANK": "1"}
    done = subprocess.run([sys.executable, str(TRAIN)], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_the_doctor_says_the_same(tmp_path):
    argv = [sys.executable, "-m", "hf_vivae_cli", "doctor"]
    done = subprocess.run(argv, capture_output=True, text=True, env=break_package(tmp_path, "torchaudio"), cwd=ROOT)
    assert done.returncode == 1
    assert "! hf_vivae           torch 2." in done.stdout
    assert "of which torchaudio does not load (OSError: Could not load this library: libtorchaudio.so)" in done.stdout
    assert "-> " in done.stdout.partition("! hf_vivae")[2]
    assert f"--force-reinstall torch torchaudio torchvision transformers -c {ROOT}" in done.stdout
    assert done.stderr == ""


def test_a_defect_of_the_package_keeps_its_traceback():
    """Only what torch and its kin raise is put into words."""
    with pytest.raises(RuntimeError, match="not one of them"), explained_imports():
        raise RuntimeError("not one of them")


@pytest.mark.parametrize("collects", [True, False])
def test_imports_pause_the_garbage_collector(collects):
    """It is on after them where it was on before, and objects that were frozen stay so."""
    if not collects:
        gc.disable()
    try:
        with explained_imports():
            assert not gc.isenabled()
        assert gc.isenabled() == collects
        assert gc.get_freeze_count(), "conftest.py freezes what is imported"
        with pytest.raises(RuntimeError), explained_imports():
            raise RuntimeError
        assert gc.isenabled() == collects
    finally:
        gc.enable()
