"""Outputs of commands: nothing that is there is replaced, and what cannot be written is refused before any loading."""

from pathlib import Path

import pytest

from hf_vivae.files import check_new
from hf_vivae.inference.explain import run_explain
from hf_vivae.inference.export import run_export
from hf_vivae.timelines.run import run_timeline
from hf_vivae.validation import UserError


def timeline(output: Path) -> None:
    run_timeline("nowhere", ["nothing.wav"], outputs=[output])


def explain(output: Path) -> None:
    run_explain("nowhere", Path("nothing.wav"), output=output, method="occlusion")


def export(output: Path) -> None:
    run_export("nowhere", output)


FILES = [(timeline, "x.csv"), (timeline, "x.png"), (explain, "x.png"), (explain, "x.npz")]


@pytest.mark.parametrize(("command", "name"), FILES)
def test_a_file_that_is_there_is_not_replaced(command, name, tmp_path):
    (tmp_path / name).write_text("of somebody")
    with pytest.raises(
        UserError, match=rf"^expected a new file as --output, found .*{name}; remove it, or give anoth"
    ):
        command(tmp_path / name)
    assert (tmp_path / name).read_text() == "of somebody"


def test_a_link_to_nowhere_is_not_replaced(tmp_path):
    (tmp_path / "x.csv").symlink_to("nothing")
    with pytest.raises(UserError, match="expected a new file"):
        timeline(tmp_path / "x.csv")


@pytest.mark.parametrize(("command", "name"), [*FILES, (export, "onnx")])
@pytest.mark.parametrize("below", ["", "deeper"])
def test_nothing_is_written_below_a_file(below, command, name, tmp_path):
    (tmp_path / "file").write_text("of somebody")
    expected = (
        r"^expected a folder to write to, found .*file.* \((a file|Not a directory)\); give another place, and repe"
    )
    with pytest.raises(UserError, match=expected):
        command(tmp_path / "file" / below / name)
    assert (tmp_path / "file").read_text() == "of somebody"


def test_an_export_is_no_file(tmp_path):
    (tmp_path / "onnx").write_text("of somebody")
    with pytest.raises(UserError, match=r"^expected a folder to write to, found .*onnx \(a file\); give another"):
        export(tmp_path / "onnx")


@pytest.mark.parametrize("path", ["/proc/x.csv", "/proc/new/x.csv", f"{'x' * 300}.csv"])
def test_a_place_that_no_file_can_be_written_to_is_refused(path, tmp_path):
    if path.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("only Linux has this folder")
    with pytest.raises(UserError, match=r"^expected a folder to write to, found "):
        check_new(tmp_path / path)


def test_a_new_file_is_accepted_and_its_folder_made(tmp_path):
    check_new(tmp_path / "new" / "deeper" / "x.csv")
    assert [*tmp_path.rglob("*")] == [tmp_path / "new", tmp_path / "new" / "deeper"]
