"""Files of a checkpoint, names of repositories and refusals before a push; `test_push.py` has the pushes."""

from types import SimpleNamespace

import pytest
import torch
from tiny import CONFIGS

from hf_vivae.features.extraction import matching_extractor
from hf_vivae.hub import client as hub
from hf_vivae.hub.client import check_access, checkpoint_files
from hf_vivae.hub.push import name_repos
from hf_vivae.models import build_model

NOTHING_LISTENS = "http://127.0.0.1:9"  # the discard port refuses at once


def save(name: str, folder):
    model = build_model(name, **CONFIGS[name])
    model.save_pretrained(folder)
    matching_extractor(name, model.config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("mlp", ["features_waveform.py", "mlp.py", "silence.py"]),
        ("vit-8-23", ["features_mel.py", "features_waveform.py", "performer.py", "silence.py", "spectrogram_vit.py"]),
        ("wav2vec2", []),
    ],
)
def test_a_checkpoint_is_its_configuration_weights_and_code(name, code, tmp_path):
    folder = save(name, tmp_path)
    for stray in ("training_args.bin", "optimizer.pt", "rng_state.pth", "run.json", "predictions.parquet", "mine.py"):
        (folder / stray).write_bytes(b"{}")
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3" / "model.safetensors").write_bytes(b"")
    expected = ["config.json", "preprocessor_config.json", "model.safetensors", *code]
    assert [str(file.relative_to(folder)) for file in checkpoint_files(folder)] == expected


def test_a_pickle_in_place_of_safetensors_is_refused(tmp_path):
    folder = save("mlp", tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"found no model.safetensors; give the folder of a finished run \(pickled"):
        checkpoint_files(folder)


def test_what_a_checkpoint_lacks_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"found no config.json and no preprocessor_config.json and no model.safet"):
        checkpoint_files(tmp_path)


def test_code_that_a_configuration_names_has_to_be_there(tmp_path):
    folder = save("mlp", tmp_path)
    (folder / "features_waveform.py").unlink()
    with pytest.raises(ValueError, match=r"found no features_waveform.py; train the run again"):
        checkpoint_files(folder)


def publication(model: str, system: str, protocol: str = "speaker-k-fold", task: str = "emotion", digest: str = "a"):
    recipe = system.split()[1] if " " in system else "none"
    run = {"model": model, "recipe": recipe, "protocol": protocol, "task": task}
    record = {"run": run, "corpus": {"digest": digest}}
    return SimpleNamespace(record=record, scores=SimpleNamespace(system=SimpleNamespace(name=system)))


def test_models_of_a_study_are_named_apart():
    def names(*publications) -> list[str]:
        return [name.removeprefix("me/study-") for name in name_repos("me/study", publications)]

    mlp, vit = publication("mlp", "mlp paper"), publication("vit-8-23", "vit-8-23 paper")
    assert names(mlp, vit) == ["mlp-paper", "vit-8-23-paper"]
    tuned = publication("mlp", "mlp tuned learning_rate=0.1")
    assert names(mlp, tuned, vit) == ["mlp-paper", "mlp-tuned", "vit-8-23-paper"]
    assert names(mlp, tuned, publication("mlp", "mlp tuned learning_rate=0.2")) == [
        "mlp-paper", "mlp-tuned-learning_rate-0.1", "mlp-tuned-learning_rate-0.2",
    ]  # fmt: skip
    other = publication("mlp", "mlp paper", "random-80-20")
    assert names(mlp, other) == ["mlp-paper-emotion-speaker-k-fold", "mlp-paper-emotion-random-80-20"]
    intensity = publication("mlp", "mlp paper", task="intensity")
    assert names(mlp, intensity) == ["mlp-paper-emotion-speaker-k-fold", "mlp-paper-intensity-speaker-k-fold"]
    elsewhere = publication("mlp", "mlp paper", digest="b")
    assert names(mlp, elsewhere) == ["mlp-paper-emotion-speaker-k-fold-a", "mlp-paper-emotion-speaker-k-fold-b"]
    assert names(publication("probe:a/hubert--x", "b")) == ["probe-hubert-x"]


def test_a_long_name_is_cut_and_made_unique_by_a_digest():
    long = [publication("mlp", f"mlp paper {'hidden_size=16 ' * 9} seed_of_data={number}") for number in range(2)]
    names = name_repos("me/study", long)
    assert [len(name) for name in names] == [96, 96]
    assert names[0][:80] == names[1][:80]
    assert names[0] != names[1]


def refusal(repo: str = "me/model", token: str | None = "hf_x") -> str:
    with pytest.raises(ValueError, match=r"^expected ") as error:
        check_access(repo, token)
    return str(error.value)


def test_no_push_without_a_token(monkeypatch):
    monkeypatch.setattr(hub, "get_token", lambda: None)
    assert refusal(token=None) == (
        "expected a Hugging Face token that may write, found none; log in with `hf auth login`, or set HF_TOKEN."
    )


def test_no_push_where_it_is_forbidden():
    assert refusal() == "expected the Hub, found HF_HUB_OFFLINE=1, which forbids it; unset it to push."


def test_no_push_without_a_network(monkeypatch):
    monkeypatch.setattr(hub.constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(hub.constants, "ENDPOINT", NOTHING_LISTENS)
    assert refusal() == (
        f"expected the Hub at {NOTHING_LISTENS}, found no connection to 127.0.0.1 (Connection refused); repeat "
        "the command; files that were sent are not sent again."
    )


@pytest.mark.parametrize("repo", ["a/b/c", "me/-x", "me/a--b", "me/gr\u00f6\u00dfe", ""])
def test_names_that_cannot_be_are_refused(repo):
    assert refusal(repo).endswith(f"and single . _ -, 96 at most, found {repo!r}; choose another name.")
