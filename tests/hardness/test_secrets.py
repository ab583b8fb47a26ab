"""Tokens and passwords that a run is given: in no file that it leaves, and in nothing that it says."""

import sys
from pathlib import Path

from forks import run_forked
from launching import finish
from loopback_hub.server import WRITE_TOKEN
from runner import TRAIN, flags

from hf_vivae.network import NetworkError

PLANTED = "hf_PlantedTokenThatNobodyMayEverSee"


def places_of(secret: str, *folders: Path) -> list[str]:
    """Files that hold it, as it is or with a zero byte behind each letter; packed ones would hide it."""
    forms = secret.encode(), secret.encode("utf-16-le")
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return [str(file) for file in files if any(form in file.read_bytes() for form in forms)]


def test_a_planted_secret_is_found(tmp_path):
    (tmp_path / "a").write_bytes(b"\x80\x04" + PLANTED.encode())
    (tmp_path / "b").write_bytes(PLANTED.encode("utf-16"))
    (tmp_path / "c").write_bytes(PLANTED[:-1].encode())
    assert sorted(Path(place).name for place in places_of(PLANTED, tmp_path)) == ["a", "b"]


def test_a_token_is_in_no_file_and_no_output_of_a_run(tiny_vivae, tmp_path):
    """All that a run writes lies in these folders: its own, the caches, and what it takes for the home."""
    folders = {name: tmp_path / name for name in ("run", "home", "hf", "cache", "temporary")}
    for folder in folders.values():
        folder.mkdir()
    variables = {"HOME": "home", "HF_HOME": "hf", "HF_VIVAE_CACHE": "cache", "TMPDIR": "temporary"}
    environment = {name: str(folders[place]) for name, place in variables.items()} | {"HF_TOKEN": f"{PLANTED}1"}
    argv = flags(tiny_vivae, folders["run"], "mlp", "--num_train_epochs", "1", "--hub_token", f"{PLANTED}2")
    status, said, errors = finish(argv, (sys.executable,), **environment)
    assert status == 0, errors
    assert (folders["run"] / "S01" / "results.json").is_file()
    assert list(folders["run"].rglob("training_args.bin")), "the library's pickle of all arguments is looked into"
    assert places_of(PLANTED, *folders.values()) == []
    assert PLANTED not in said + errors


def test_a_token_that_pushes_is_not_pushed_and_not_left(hub, tiny_vivae, tmp_path):
    argv = flags(tiny_vivae, tmp_path / "run", "mlp", "--num_train_epochs", "1", "--push_to_hub", "--hub_strategy")
    argv += ["every_save", "--hub_model_id", "tester/secrets", "--hub_token", WRITE_TOKEN]
    done = run_forked([TRAIN, *argv], env=hub.environment(hub.home, None))
    assert done.returncode == 0, done.stderr
    assert "pushed" in done.stdout
    assert places_of(WRITE_TOKEN, tmp_path) == []
    assert WRITE_TOKEN not in done.stdout + done.stderr
    assert not any(WRITE_TOKEN.encode() in content for content in hub.store.blobs.values())


def test_a_password_in_an_address_is_not_told():
    message = str(NetworkError("https://anna:secret@host.org/VIVAE.zip?token=abc", "HTTP 404"))
    assert message.startswith("expected a download from https://host.org/VIVAE.zip, found HTTP 404; ")


def test_an_error_of_the_network_names_no_flags_that_another_command_lacks():
    """Downloads of VIVAE add theirs; the Hub client, predict and the doctor have none of them."""
    assert "--" not in str(NetworkError("https://huggingface.co", "HTTP 503"))
