"""Every command that writes a report refuses a folder whose files another command has written."""

import json
from pathlib import Path

import pytest
from runner import ROOT, script

from hf_vivae.files import read_json
from hf_vivae.validation import UserError

CLIPS = ["--data", "folder", "--data_dir", "nowhere"]
COMMANDS = {
    "evaluate": ["nowhere"],
    "evaluate checkpoints": ["no/checkpoint", *CLIPS],
    "explore": CLIPS,
    "reproduce": CLIPS,
    "search": ["--model", "mlp", *CLIPS],
    "ablate": ["--model", "vit-32-30", *CLIPS],
    "curve": ["--model", "mlp", *CLIPS],
}
OF_RUN = {"fold": "1-of-5", "test": {}}
OF_REPORTS = {
    "evaluate": {"groups": [], "left_out": []},
    "evaluate checkpoints": {"groups": [], "left_out": []},
    "reproduce": {"corpus": None, "runs": [], "left_out": [], "tables": {}},
    "search": {"model": "mlp", "trials": {}, "best": {}},
    "curve": {"model": "mlp", "points": []},
}


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def start(command: str, output: Path) -> None:
    name = command.split()[0]
    script(ROOT / "recipes" / f"{name}.py").main([*COMMANDS[command], "--output_dir", str(output)])


@pytest.mark.parametrize("command", COMMANDS)
def test_the_folder_of_a_run_is_refused_before_anything_is_read(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "run"
    output.mkdir()
    (output / "run.json").write_text('{"run": {}}')
    (output / "results.json").write_text(json.dumps(OF_RUN))
    before = contents(tmp_path)
    with pytest.raises(
        ValueError, match=rf"^expected a folder for a report as --output_dir, found the run.json of a run in {output};"
    ):
        start(command, output)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", OF_REPORTS)
def test_results_of_another_command_are_not_written_over(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "results.json"
    others = [content for content in (OF_RUN, *OF_REPORTS.values()) if content != OF_REPORTS[command]]
    for other in others:
        file.write_text(json.dumps(other))
        with pytest.raises(ValueError, match=rf"^expected no results of another command in .*, found {file}; give"):
            start(command, tmp_path)
        assert contents(tmp_path) == {"results.json": json.dumps(other)}
    file.write_text("{")
    with pytest.raises(ValueError, match=rf"^expected JSON in {file}, found a damaged .*; give another --output_dir"):
        start(command, tmp_path)
    file.write_text(json.dumps(OF_REPORTS[command]))
    with pytest.raises(ValueError, match=r"nowhere|no/checkpoint"):  # its own results are no reason to refuse
        start(command, tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_is_too_long_for_a_folder_is_the_users_mistake(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        start(command, tmp_path / ("a" * 300))


def test_a_file_of_a_run_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(self, **_):
        raise PermissionError(13, "Permission denied", str(self))

    file = tmp_path / "run.json"
    monkeypatch.setattr(Path, "read_text", refuse)  # root may read what has no permission
    with pytest.raises(UserError, match=rf"^expected a file to read, found {file} \(Permission denied\); remove its"):
        read_json(file)
