"""The command `hf-vivae`: its commands are those that the pages show, and end as scripts should."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer.main
from checkpoints_of import write_checkpoint
from click import Context
from click.testing import Result
from forks import fork_group
from runner import ROOT
from test_documented_commands import parsers
from typer.testing import CliRunner

from hf_vivae_cli import app
from hf_vivae_cli.app import RECIPES, recipes_folder
from hf_vivae_cli.doctor import USES, check_cache, errors_as_findings

COMMAND = typer.main.get_command(app)
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("using", "timelines", "embeddings"))]
SHOWN = [
    shlex.split(line, comments=True)
    for page in PAGES
    for line in re.findall(r"hf-vivae ((?:\w+ )[^`\n]*)", page.read_text())
    if "..." not in line and "--help" not in line and line.split()[0] in COMMAND.commands
]
# prints how `--help` of each command ends, and what it prints
HELP = """
import contextlib, io, json, sys
sys.modules["torch"] = None
from hf_vivae_cli import app

pages = {}
for name in sys.argv[1:]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            app([*name.split(), "--help"])
        except BaseException as end:
            pages[name] = getattr(end, "code", 1), printed.getvalue()
print(json.dumps(pages))
"""


def hf_vivae(*argv: str, sent: bytes | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, argv, input=sent)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def clips(tmp_path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, 20000)
        soundfile.write(folder / f"{number}.wav", noise, 44100)
    return folder


@pytest.fixture(scope="module")
def help_pages() -> dict[str, tuple[int, str]]:
    """Exit code and `--help` of each command, in a process without torch."""
    done = subprocess.run([sys.executable, "-c", HELP, "", *COMMAND.commands], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["", *COMMAND.commands])
def test_help_needs_no_torch(name, help_pages):
    if name in RECIPES:  # whose flags are those of the library's own classes
        pytest.skip("the recipe's own parser answers")
    status, printed = help_pages[name]
    assert status == 0, printed
    assert "Usage:" in printed
    assert "..." not in printed.partition("Commands:")[2], "summaries fit"


@pytest.mark.parametrize("argv", SHOWN, ids=shlex.join)
def test_commands_of_the_pages_are_understood(argv):
    name, *rest = argv
    if name in RECIPES:
        parsers()[name](rest)
    else:
        COMMAND.commands[name].make_context(name, rest, parent=Context(COMMAND))


def test_every_command_is_shown_on_a_page():
    text = "".join(page.read_text() for page in PAGES)
    missing = [name for name in COMMAND.commands if f"hf-vivae {name}" not in text and name not in RECIPES]
    assert missing == []


def test_every_recipe_is_a_command_and_passes_its_flags_on():
    assert all((recipes_folder() / f"{name}.py").is_file() for name in RECIPES)
    done = hf_vivae("push", "--repo", "mine")
    assert done.exit_code == 1
    assert done.stderr == "error: expected --repo owner/name, found mine; name a repository.\n"


def test_clips_are_labelled_and_the_exit_code_is_3_where_one_was_not(checkpoint, clips, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = hf_vivae("predict", str(checkpoint), str(clips))
    assert done.exit_code == 0, done.stderr
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [str(clips / f"{n}.wav") for n in range(2)]
    (clips / "bad.wav").write_text("no sound")
    done = hf_vivae("predict", str(checkpoint), "clips", "--output", "new/x.csv")
    assert done.exit_code == 3
    assert done.stdout == "2 clips scored: new/x.csv\n"
    assert "1 clips not, with the reason: new/x.csv.errors.csv" in done.stderr
    again = hf_vivae("predict", str(checkpoint), "clips", "--output", "new/x.csv")
    assert again.exit_code == 1
    assert again.stderr.startswith("error: expected a new file as --output, found new/x.csv")


def test_scores_of_two_precisions_are_not_mixed(checkpoint, clips, tmp_path):
    argv = ["predict", str(checkpoint), str(clips), "--output", str(tmp_path / "parts")]
    assert hf_vivae(*argv).exit_code == 0
    done = hf_vivae(*argv, "--bf16")
    assert done.exit_code == 1
    assert "bf16" in done.stderr


def test_names_have_no_effect_on_a_terminal_and_cut_clips_are_counted_once(checkpoint, clips, monkeypatch):
    monkeypatch.chdir(clips)
    for name in (b"\x1b[31mlach\xe9.wav", b"\x1b]0;title\x07.wav"):
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 44100)
        soundfile.write(name, noise if name.startswith(b"\x1b[") else noise[:10], 44100)
    done = hf_vivae("predict", str(checkpoint), ".")
    assert done.exit_code == 3
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["\\x1b[31mlach\\xe9.wav", "0.wav", "1.wav"]
    failed, cut = done.stderr.splitlines()
    assert failed.startswith("\\x1b]0;title\\x07.wav\t\\x1b]0;title\\x07.wav: expected at least 25 ms of sound, found")
    assert cut == "1 clips are longer than the 1 s that the model takes, and were used in part"


def test_a_process_reports_parts_that_others_have_not_finished(checkpoint, clips, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("hf_vivae.inference.sources.FILES_PER_SHARD", 1)
    done = hf_vivae("predict", str(checkpoint), str(clips), "--output", str(tmp_path / "x.csv"))
    assert done.exit_code == 0
    assert "1 of 2 parts are missing, which other processes score; where none of these is at work any" in done.stderr
    assert not (tmp_path / "x.csv").exists()


def test_standard_input_is_a_clip(checkpoint, clips):
    done = hf_vivae("predict", str(checkpoint), "-", sent=(clips / "0.wav").read_bytes())
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("<stdin>\t")


def test_processes_share_an_archive(checkpoint, clips, tmp_path):
    command = ["predict", checkpoint, clips, "--output", tmp_path / "x.csv"]
    program = "import runpy; runpy.run_module('hf_vivae_cli', run_name='__main__')"
    group = fork_group(command, processes=2, code=program)
    outputs = [process.communicate() for process in group]
    assert [process.returncode for process in group] == [0, 0], outputs
    assert f"2 clips scored: {tmp_path / 'x.csv'}" in "".join(printed for printed, _ in outputs)
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["predict", "CHECKPOINT"], "expected clips or --dataset, found both or neither"),
        (
            ["predict", "CHECKPOINT", "a.wav", "--output", "x.doc"],
            "expected --output as .csv, .jsonl, .parquet or",
        ),
        (["predict", "nowhere", "CLIPS"], "expected a checkpoint folder or a Hub id (owner/name), found 'nowhere'"),
        (["predict", "someone/nothing", "CLIPS"], "HF_HUB_OFFLINE"),
        (
            ["timeline", "CHECKPOINT", "CLIPS/0.wav", "--output", "x.doc"],
            "expected --output with a suffix of .csv, .TextGrid",
        ),
        (
            ["timeline", "CHECKPOINT", "CLIPS/0.wav", "--hop", "3"],
            "expected --hop of at least 0.01 and at most",
        ),
        (["timeline", "CHECKPOINT", "CLIPS/none.wav"], "none.wav, found none; check the path"),
        (["timeline", "CHECKPOINT", "CLIPS/0.wav", "--fit"], "expected --reference with --fit, found none"),
        (["timeline", "CHECKPOINT", "CLIPS", "--output", "x.csv"], "expected a folder as --output of 2 recordings"),
        (
            ["timeline", "CHECKPOINT", "CLIPS/0.wav", "--format", ".eaf"],
            "expected a folder as --output with --format, found none",
        ),
        (
            ["timeline", "CHECKPOINT", "CLIPS", "--output", "x", "--format", ".textgrid"],
            "did you mean .TextGrid?",
        ),
        (
            ["timeline", "CHECKPOINT", "CLIPS", "--output", "x", "--output", "x.eaf"],
            "expected one folder or several files as --output, found x, x.eaf",
        ),
        (["explain", "CHECKPOINT", "CLIPS/0.wav", "--output", "x.doc"], "expected --output as x.png or x.npz"),
        (["explain", "CHECKPOINT", "CLIPS/0.wav", "--label", "angr"], "did you mean anger?"),
        (["explain", "CHECKPOINT", "CLIPS/none.wav"], "found no file at"),
        (["demo", "nowhere"], "expected a checkpoint folder or a Hub id (owner/name), found 'nowhere'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_sentence(argv, sentence, checkpoint, clips, monkeypatch):
    monkeypatch.chdir(clips)
    argv = [word.replace("CHECKPOINT", str(checkpoint)).replace("CLIPS", str(clips)) for word in argv]
    done = hf_vivae(*argv)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert sentence in done.stderr


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory) -> list[Path]:
    """Files that errors of every kind are about."""
    folder = tmp_path_factory.mktemp("bad")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20000)
    for name, samples in (("nan.wav", noise * np.nan), ("silent.wav", 0 * noise), ("short.wav", noise[:9])):
        soundfile.write(folder / name, samples, 44100, subtype="FLOAT")
    for name in ("cut.wav", "cut.flac", "cut.mp3", "cut.ogg"):
        soundfile.write(folder / name, noise, 44100)
        (folder / name).write_bytes((folder / name).read_bytes()[:-3000])
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no sound")
    return [*sorted(folder.iterdir()), folder / "absent.wav"]


@pytest.mark.parametrize("name", ["predict", "timeline", "explain"])
def test_errors_of_bad_files_recommend_only_flags_that_the_command_has(
    name, checkpoint, bad_files, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    flags = {flag for parameter in COMMAND.commands[name].params for flag in parameter.opts}
    for file in bad_files:
        done = hf_vivae(name, str(checkpoint), str(file))
        assert done.exit_code in (1, 3), file
        assert "expected" in done.stderr
        assert set(re.findall(r"--\w+", done.stderr)) <= flags, done.stderr


def test_explanations_are_pictures_and_arrays(checkpoint, clips, monkeypatch):
    monkeypatch.chdir(clips)
    for method in ("occlusion", "gradient"):
        for suffix in ("png", "npz"):
            argv = ["explain", str(checkpoint), "0.wav", "--method", method, "--output", f"new/{method}.{suffix}"]
            done = hf_vivae(*argv)
            assert done.exit_code == 0, done.stderr
    arrays = np.load(clips / "new" / "gradient.npz")
    assert arrays["relevance"].shape == arrays["spectrogram"].shape


def test_doctor_lists_the_installation_and_never_the_token(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path / "cache"))
    done = hf_vivae("doctor")
    assert done.exit_code == 0, done.stderr
    for word in ("torch", "device", "cpu", str(tmp_path / "cache"), "VIVAE", "cc-by-nc-4.0", "a token is stored"):
        assert word in done.stdout
    assert "hf_planted" not in done.stdout + done.stderr


def test_the_doctor_knows_a_use_of_each_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert USES.keys() == extras.keys() - {"test"}


def test_a_wheel_has_all_that_the_recipes_read():
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    named = {file for patterns in shipped.values() for pattern in patterns for file in ROOT.glob(pattern)}
    wanted = {
        file
        for folder in ("recipes", "model_cards", "demo")
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file != ROOT / "recipes" / "README.md"
    }
    assert named >= wanted
    assert all(Path(target) == Path("share/hf_vivae", patterns[0]).parent for target, patterns in shipped.items())
    assert ROOT / "constraints.txt" in named


def test_the_end_of_a_damaged_file_is_not_taken_for_that_of_the_terminal(monkeypatch):
    def load(*_, **__):
        raise EOFError("Ran out of input")

    monkeypatch.setattr("hf_vivae.training.recipes.parse_run", load)
    # a process group of another test leaves one that begins lines with its rank
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    done = hf_vivae("train", "--model", "mlp")
    assert done.exit_code == 1
    assert done.stderr.endswith("\nEOFError: Ran out of input\n")
    assert "Aborted" not in done.stderr


@pytest.mark.parametrize("cache", ["~nobody-of-this-name/x", "/proc/x/y"])
def test_the_doctor_names_the_variable_of_a_cache_that_cannot_be(cache, monkeypatch):
    monkeypatch.setenv("HF_VIVAE_CACHE", cache)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root may write anywhere
    (finding,) = (finding for finding in errors_as_findings("cache", check_cache) if finding.needed)
    assert finding.remedy == "set HF_VIVAE_CACHE to a folder that you may write to"


def refuse(**_):
    raise PermissionError(13, "Permission denied")


def test_the_doctor_reports_a_cache_in_a_closed_folder(tmp_path, monkeypatch):
    """Files in it cannot even be looked for."""
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path / ("a" * 300)))  # which os.stat refuses for root, too
    findings = list(errors_as_findings("cache", check_cache))
    assert "install" not in "".join(finding.remedy or "" for finding in findings)
