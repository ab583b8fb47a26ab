"""Disks that fill up or are read-only: one sentence, nothing earlier is harmed, and the same command goes on later."""

import json
import re
from pathlib import Path

import pytest
import torch
from archive_server import ARCHIVE
from launching import outcome
from runner import flags, run
from safetensors.torch import load_file

from hf_vivae.corpus.download import download
from hf_vivae.corpus.generated import generate_corpus
from hf_vivae.features import cache
from hf_vivae.files import DiskError, find_fault
from hf_vivae.hub import client as hub
from hf_vivae.training import run as fold_training
from hf_vivae.training.trainer import VivaeTrainer

CONFIG = ["--model_config", json.dumps({"num_samples": 2000, "hidden_sizes": [64]})]
OF_CACHE = "free some room or set HF_VIVAE_CACHE to another folder, and repeat the command."
OF_RUN = "free some room and repeat the command, and the run goes on from its last checkpoint."
FULL, READ_ONLY = "No space left on device", "Read-only file system"


def refused(folder: Path, fault: str, cure: str):
    """That one sentence is said of the folder, or of one in it."""
    place = re.escape(str(folder))
    pattern = rf"^expected a folder to write to, found {place}.* \({fault}\); {re.escape(cure)}(\nin fold|$)"
    return pytest.raises(DiskError, match=pattern)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "filler" and path.suffix != ".lock"
    }


def test_a_download_stops_where_the_disk_is_full_and_goes_on_later(make_disk, serve):
    disk, server = make_disk(1024), serve(["ok"])
    (disk.folder / "earlier").write_bytes(b"kept")
    disk.fill(leave=100_000)
    with refused(disk.folder, FULL, OF_CACHE):
        download(server.url, disk.folder / "VIVAE.zip")
    assert not (disk.folder / "VIVAE.zip").exists()
    assert (disk.folder / "earlier").read_bytes() == b"kept"
    arrived = (disk.folder / "VIVAE.zip.part").stat().st_size
    assert 0 < arrived < len(ARCHIVE)
    disk.make_room()
    assert download(server.url, disk.folder / "VIVAE.zip").read_bytes() == ARCHIVE
    assert server.requests == [None, f"bytes={arrived}-"]


@pytest.mark.parametrize("fault", [FULL, READ_ONLY])
def test_generated_clips_are_whole_or_not_there(fault, make_disk):
    disk = make_disk(128)

    def make(seed: int) -> Path:
        return generate_corpus("synthetic", "1", seed, disk.folder, NAMES, lambda *_: torch.zeros(20_000).numpy())

    NAMES = ["S01_anger_low_01.wav"]
    earlier = files(make(0))
    disk.fill(leave=10_000) if fault == FULL else disk.make_read_only()
    with refused(disk.folder, fault, OF_CACHE):
        make(1)
    assert files(disk.folder).keys() == {f"synthetic/seed-0-1/{name}" for name in earlier}, (
        "nothing half-written stays"
    )
    assert files(make(0)) == earlier, "what is there is used as it is"
    if fault == FULL:
        disk.make_room()
        assert files(make(1)) == earlier


@pytest.mark.parametrize("fault", [FULL, READ_ONLY])
def test_features_that_cannot_be_kept(fault, make_disk, tiny_vivae, tmp_path, monkeypatch):
    disk = make_disk(4096)
    monkeypatch.setenv("HF_VIVAE_CACHE", str(disk.folder))
    run(flags(tiny_vivae, tmp_path / "one", "mlp", *CONFIG))
    earlier = files(disk.folder)
    assert len(earlier) == 2, "peaks and features"
    disk.fill() if fault == FULL else disk.make_read_only()
    other = ["--model_config", json.dumps({"num_samples": 3000, "hidden_sizes": [64]})]
    with refused(disk.folder, fault, OF_CACHE):
        run(flags(tiny_vivae, tmp_path / "two", "mlp", *other))
    assert files(disk.folder) == earlier, "nothing half-written stays"
    run(flags(tiny_vivae, tmp_path / "three", "mlp", *CONFIG))
    one, three = (load_file(tmp_path / name / "S01" / "model.safetensors") for name in ("one", "three"))
    torch.testing.assert_close(three, one, atol=0, rtol=0)


def test_features_that_fill_the_disk_are_removed(make_disk, tiny_vivae, tmp_path, monkeypatch):
    """The first batches still fit, and are no file that a later run would take for whole."""
    disk = make_disk(4096)
    monkeypatch.setenv("HF_VIVAE_CACHE", str(disk.folder))
    monkeypatch.setattr("hf_vivae.features.cache.BATCH", 4)
    decode, batches = cache.decode_batch, []

    def decode_and_fill(batch: dict, *args) -> list:
        batches.append(batch["file"])
        if len(batches) == 6:
            disk.fill(leave=8192)
        return decode(batch, *args)

    config = ["--model_config", json.dumps({"num_samples": 3000, "hidden_sizes": [64]})]
    with monkeypatch.context() as filling:
        filling.setattr(cache, "decode_batch", decode_and_fill)
        with refused(disk.folder, FULL, OF_CACHE):
            run(flags(tiny_vivae, tmp_path / "one", "mlp", *config))
    assert len(files(disk.folder)) == 1, "peaks"
    disk.make_room()
    run(flags(tiny_vivae, tmp_path / "one", "mlp", *config))
    assert len(files(disk.folder)) == 2


@pytest.mark.parametrize("room", [0, 300_000, 900_000, 1_400_000])
def test_a_checkpoint_that_does_not_fit_is_not_resumed(room, make_disk, tiny_vivae, tmp_path, monkeypatch):
    """Room for none, half of the weights, half of the optimizer, or nearly all of it."""
    disk = make_disk(16 * 1024)
    argv = flags(tiny_vivae, disk.folder / "run", "mlp", *CONFIG, "--num_train_epochs", "4")
    save = VivaeTrainer._save_checkpoint

    def fill_and_save(self, *args) -> None:
        if self.state.global_step == 6:
            disk.fill(leave=room)
        save(self, *args)

    with monkeypatch.context() as filling:
        filling.setattr(VivaeTrainer, "_save_checkpoint", fill_and_save)
        with refused(disk.folder / "run", FULL, OF_RUN):
            run(argv)
    fold = disk.folder / "run" / "S01"
    assert (fold / "checkpoint-3" / "trainer_state.json").is_file()
    assert not json.loads((fold / "run.json").read_text())["finished"]
    disk.make_room()
    run(argv)
    run([*argv, "--output_dir", str(tmp_path / "whole")])
    assert outcome(fold) == outcome(tmp_path / "whole" / "S01")


@pytest.mark.parametrize("room", [0, 200_000, 516_000])
def test_results_that_do_not_fit_leave_a_run_that_is_not_finished(room, make_disk, tiny_vivae, tmp_path, monkeypatch):
    disk = make_disk(16 * 1024)
    argv = flags(tiny_vivae, disk.folder / "run", "mlp", *CONFIG)
    predict = fold_training._predict

    def predict_and_fill(*args):
        rows = predict(*args)
        disk.fill(leave=room)
        return rows

    with monkeypatch.context() as filling:
        filling.setattr(fold_training, "_predict", predict_and_fill)
        with refused(disk.folder / "run", FULL, OF_RUN):
            run(argv)
    fold = disk.folder / "run" / "S01"
    assert not (fold / "results.json").exists()
    assert not json.loads((fold / "run.json").read_text())["finished"]
    disk.make_room()
    run(argv)
    run([*argv, "--output_dir", str(tmp_path / "whole")])
    assert outcome(fold) == outcome(tmp_path / "whole" / "S01")


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    for error in (FileNotFoundError(2, "No such file"), OSError("?"), RuntimeError("shapes differ"), OSError(13, "?")):
        assert find_fault(error, tmp_path) is None


def test_damaged_weights_of_a_run_are_never_pushed(tmp_path):
    """A final file of weights is written in place; what tells that it is whole is `results.json`, written later."""
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{")
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=r"expected whole weights in .*, found damaged ones"):
        hub.checkpoint_files(tmp_path)
