"""Commands of `hf-vivae` on a disk that fills up: one sentence, no half file, and earlier files stay."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from checkpoints_of import write_checkpoint
from tiny import clips

from hf_vivae.files import DiskError
from hf_vivae.inference.explain import run_explain
from hf_vivae.inference.export import run_export
from hf_vivae.inference.predict import run_predict
from hf_vivae.timelines.run import run_timeline

RATE = 44100


def predict(checkpoint: str, clip: Path, output: Path) -> None:
    run_predict(checkpoint, [str(clip)], output=output)


def timeline(checkpoint: str, clip: Path, output: Path) -> None:
    run_timeline(checkpoint, [str(clip)], outputs=[output])


def explain(checkpoint: str, clip: Path, output: Path) -> None:
    run_explain(checkpoint, clip, output=output, method="occlusion")


def export(checkpoint: str, clip: Path, output: Path) -> None:
    run_export(checkpoint, output)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("checkpoint")))


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (predict, "scores.csv"),
        (predict, "scores.parquet"),
        (timeline, "said.json"),
        (timeline, "said.png"),
        (timeline, "timelines"),
        (explain, "why.png"),
        (explain, "why.npz"),
        pytest.param(export, "onnx", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_said_in_one_sentence_and_the_command_can_be_repeated(
    command: Callable, name: str, checkpoint, make_disk, tmp_path
):
    if command is export:
        pytest.importorskip("onnxruntime")
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, clips(RATE, 1)[0], RATE)
    disk = make_disk(4096)
    (disk.folder / "earlier").write_bytes(b"kept")
    disk.fill(leave=0)
    with pytest.raises(
        DiskError, match=rf"^expected a folder to write to, found {re.escape(str(disk.folder))}.*; free s"
    ):
        command(checkpoint, clip, disk.folder / name)
    output = disk.folder / name
    assert not output.is_file()
    assert not list(output.glob("*.onnx"))
    assert (disk.folder / "earlier").read_bytes() == b"kept"
    disk.make_room()
    command(checkpoint, clip, output)
    assert next(output.rglob("*.onnx")).stat().st_size if command is export else output.stat().st_size
