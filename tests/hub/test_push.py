"""Runs pushed by `recipes/push.py` to a Hub on loopback, and loaded from it where `hf_vivae` is not."""

import json
import re
import shutil
import signal
import subprocess
import time
from ast import literal_eval
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from bare_environment import make_bare_environment
from encoders import write_encoder
from fake_runs import write_run
from forks import Fork, run_forked
from huggingface_hub import ModelCard
from loopback_hub.server import READ_TOKEN, WRITE_TOKEN, Fault, HubServer
from runner import ROOT, encoder_flags, flags, push, run, script
from safetensors.torch import load_file, save_file
from tiny import CONFIGS

from hf_vivae import audio
from hf_vivae.models import MODELS

pytestmark = pytest.mark.hub
# loads models of the Hub, and prints the logits and the pipeline's scores of their clips
LOAD = """
import json, sys
import numpy as np, torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline
waves, answers = np.load(sys.argv[1]), {}
for name, (trust, files) in json.load(sys.stdin).items():
    try:
        model = AutoModelForAudioClassification.from_pretrained(name, **trust)
        extractor = AutoFeatureExtractor.from_pretrained(name, **trust)
        rate = extractor.sampling_rate
        clips = [waves[f"{rate}/{file}"][: getattr(extractor, "num_samples", None)] for file in files]
        with torch.no_grad():
            outputs = [model(**extractor(clip, sampling_rate=rate, return_tensors="pt")).logits[0] for clip in clips]
        classify = pipeline("audio-classification", name, top_k=None, **trust)
        scores = [classify({"array": clip, "sampling_rate": rate}) for clip in clips]
        answers[name] = [row.tolist() for row in outputs], scores
    except ImportError as error:
        answers[name] = str(error)
for module in ("hf_vivae", "torchaudio", "timm", "datasets", "soundfile"):
    assert module in sys.argv[2:] or module not in sys.modules, module
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def folders(tiny_vivae, tmp_path_factory) -> dict[str, Path]:
    """The run folder of each tiny model, of one fold, and of others with all that a checkpoint may carry."""
    root, once = tmp_path_factory.mktemp("runs"), ("--num_train_epochs", "1")
    for name in MODELS:
        run(flags(tiny_vivae, root / name, name, *once))
    whisper, hubert = (write_encoder(tmp_path_factory.mktemp("base"), kind) for kind in ("whisper", "group norm"))
    adapted = ("--trim_db", "20", "--lora_rank", "2")
    run(encoder_flags(tiny_vivae, whisper, root / "whisper", *once, *adapted))
    run(encoder_flags(tiny_vivae, hubert, root / "hubert", *once))
    performer = json.dumps(CONFIGS["vit-32-30"] | {"attention": "performer"})
    run(flags(tiny_vivae, root / "performer", "vit-32-30", *once, "--trim_db", "20", "--model_config", performer))
    return {name: root / name for name in (*MODELS, "whisper", "hubert", "performer")}


@pytest.fixture(scope="module")
def pushed(hub, folders, tmp_path_factory) -> dict[str, str]:
    """Return the output of the script for each model; all are at `tester/<name>`."""
    argvs = [[str(folder), "--repo", f"tester/{name}", "--yes"] for name, folder in folders.items()]
    return dict(zip(folders, push(hub, argvs), strict=True))


def load(hub: HubServer, home: Path, python: Path, wanted: dict, waves: Path, *allowed: str) -> dict:
    done = subprocess.run(
        [python, "-I", "-c", LOAD, waves, *allowed], input=json.dumps(wanted), capture_output=True, text=True,
        cwd=home, env=hub.environment(home, WRITE_TOKEN),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def read_test_rows(folder: Path, clips: int = 3) -> list[dict[str, Any]]:
    rows = pq.read_table(folder / "S01" / "predictions.parquet").to_pylist()
    return [row for row in rows if row["split"] == "test"][:clips]


@pytest.fixture(scope="module")
def waves(folders, tiny_vivae, tmp_path_factory) -> Path:
    """Test clips as arrays, at the rate of each model: a bare environment reads no files."""
    files = {row["file"] for folder in folders.values() for row in read_test_rows(folder)}
    arrays = {
        f"{rate}/{file}": audio.load(tiny_vivae / "full_set" / file, rate)[0]
        for file in files
        for rate in (16000, 44100)
    }
    path = tmp_path_factory.mktemp("waves") / "waves.npz"
    np.savez(path, **arrays)
    return path


def check_scores(found: Any, folder: Path) -> None:
    """Logits and probabilities are those of the run's own predictions."""
    logits, outputs = found
    rows = read_test_rows(folder)
    np.testing.assert_allclose(logits, [row["logits"] for row in rows], atol=1e-5)
    labels = json.loads((folder / "S01" / "results.json").read_text())["labels"]
    for output, row in zip(outputs, rows, strict=True):
        assert [item["score"] for item in output] == sorted((item["score"] for item in output), reverse=True)
        scores = {item["label"]: item["score"] for item in output}
        expected = torch.tensor(row["logits"]).softmax(-1).tolist()
        assert scores == pytest.approx(dict(zip(labels, expected, strict=True)), abs=1e-5)


@pytest.fixture(scope="module")
def direct(hub, folders) -> str:
    """Repository of a checkpoint that the library's own `push_to_hub` has sent."""
    program = (
        "import sys, hf_vivae\nfrom transformers import AutoFeatureExtractor, AutoModelForAudioClassification\n"
        "for auto in (AutoModelForAudioClassification, AutoFeatureExtractor):\n"
        "    auto.from_pretrained(sys.argv[1]).push_to_hub('tester/direct', private=True)"
    )
    done = run_forked([folders["vit-8-23"] / "S01"], code=program, env=hub.environment(hub.home, WRITE_TOKEN))
    assert done.returncode == 0, done.stderr
    return "tester/direct"


@pytest.fixture(scope="module")
def loaded_bare(hub, pushed, direct, folders, waves, tmp_path_factory) -> dict[str, Any]:
    """Return the answers of `LOAD` for all these repositories, where there is torch, transformers and numpy alone."""
    place = tmp_path_factory.mktemp("alone")
    files = {name: [row["file"] for row in read_test_rows(folder)] for name, folder in folders.items()}
    # wav2vec2 is the library's, and needs no consent
    trust = {name: {} if name == "wav2vec2" else {"trust_remote_code": True} for name in folders}
    wanted = {f"tester/{name}": (trust[name], files[name]) for name in folders}
    wanted[direct] = (trust["vit-8-23"], files["vit-8-23"])
    return load(hub, place, make_bare_environment(place / "bare"), wanted, waves)


def test_every_model_loads_where_there_is_torch_transformers_and_numpy_alone(loaded_bare, folders):
    assert re.search(r"packages that were not found in your environment: timm\b", loaded_bare["tester/vit-base"])
    for name in folders.keys() - {"vit-base"}:
        check_scores(loaded_bare[f"tester/{name}"], folders[name])


def test_what_the_librarys_own_push_to_hub_has_sent_loads_there_as_well(loaded_bare, direct, folders):
    check_scores(loaded_bare[direct], folders["vit-8-23"])


def test_vit_base_loads_where_there_is_timm_as_well(hub, pushed, folders, waves, tmp_path):
    python = make_bare_environment(tmp_path / "bare", ("torch", "transformers", "numpy", "timm"))
    files = [row["file"] for row in read_test_rows(folders["vit-base"])]
    found = load(hub, tmp_path, python, {"tester/vit-base": ({"trust_remote_code": True}, files)}, waves, "timm")
    check_scores(found["tester/vit-base"], folders["vit-base"])


def test_where_the_package_is_no_model_needs_consent(hub, pushed, folders, waves, tmp_path):
    program = f"import hf_vivae\n{LOAD}"
    wanted = {
        f"tester/{name}": ({}, [row["file"] for row in read_test_rows(folder)]) for name, folder in folders.items()
    }
    done = run_forked(
        [waves, "hf_vivae", "torchaudio", "timm", "datasets", "soundfile"], code=program, input=json.dumps(wanted),
        cwd=tmp_path, env=hub.environment(hub.home, WRITE_TOKEN),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, found in json.loads(done.stdout.splitlines()[-1]).items():
        check_scores(found, folders[name.removeprefix("tester/")])


def test_a_repository_has_the_checkpoint_the_card_and_nothing_else(hub, pushed, folders):
    for name, printed in pushed.items():
        paths = set(hub.store.paths(f"tester/{name}")) - {".gitattributes"}
        assert {"README.md", "config.json", "preprocessor_config.json", "model.safetensors"} <= paths
        assert {Path(path).suffix for path in paths} <= {".md", ".json", ".safetensors", ".py", ".png"}
        assert {"run.json", "results.json"}.isdisjoint(paths)
        assert all(re.search(rf"\d bytes  {re.escape(path)}\n", printed) for path in paths)
        assert hub.store.repos["model", f"tester/{name}"].private
        assert f"pushed      {hub.url}/tester/{name}/commit/" in printed
    assert not [path for path in hub.store.paths("tester/wav2vec2") if path.endswith(".py")]


def test_the_card_on_the_hub_has_the_scores_of_the_run(hub, pushed, folders):
    for name, folder in folders.items():
        content = hub.store.read("tester/" + name, "README.md").decode()
        assert content in pushed[name]
        card = ModelCard(content)
        results = json.loads((folder / "S01" / "results.json").read_text())
        scores = {result.metric_name: result.metric_value for result in card.data.eval_results}
        assert scores["accuracy"] == pytest.approx(results["test"]["accuracy"], abs=5e-5)
        assert scores["UAR"] == pytest.approx(results["test"]["uar"], abs=5e-5)
        for picture in re.findall(r"\]\(([^)]+\.png)\)", content):
            assert hub.store.read("tester/" + name, picture).startswith(b"\x89PNG")


def test_the_lines_of_every_card_run(hub, pushed, folders, tiny_vivae, tmp_path):
    file = tiny_vivae / "full_set" / read_test_rows(folders["mlp"])[0]["file"]
    shutil.copy(file, tmp_path / "clip.wav")
    cards = [hub.store.read(f"tester/{name}", "README.md").decode() for name in folders]
    program = "import json, re, sys\nfor block in json.load(sys.stdin):\n    exec(block, {})\n    print('ran')"
    lines = [block for card in cards for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL)]
    assert len(lines) == 2 * len(folders)
    environment = hub.environment(hub.home, WRITE_TOKEN)
    done = run_forked([], code=program, input=json.dumps(lines), cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split("ran\n")[:-1]
    for one, other in zip(printed[::2], printed[1::2], strict=True):  # the library's pipeline, and ours
        scores, again = ({item["label"]: item["score"] for item in literal_eval(text)} for text in (one, other))
        assert len(scores) == 6
        assert scores == pytest.approx(again, abs=1e-5)


def test_without_yes_nothing_is_sent(hub, folders, tmp_path):
    before = len(hub.log)
    (printed,) = push(hub, [[str(folders["mlp"]), "--repo", "tester/shown"]], token=None)
    assert hub.log[before:] == []
    assert printed.startswith("tester/shown (model, private)\n")
    assert "\nREADME.md\n\n---\n" in printed
    assert printed.rstrip().endswith("Nothing was sent; add --yes to push.")


def test_a_push_is_repeated_updated_and_pinned(hub, folders, waves, tmp_path):
    argv = [str(folders["mlp"]), "--repo", "tester/again", "--yes", "--public"]
    other = [str(folders["logistic-regression"]), *argv[1:]]
    once, again, changed = push(hub, [argv, argv, other])
    assert again == once != changed, "the same commit"
    repo = hub.store.repos["model", "tester/again"]
    assert not repo.private
    assert len(repo.commits) == 3, "that of the repository's making, and two pushes"
    first = re.search(r"/commit/([0-9a-f]{40})", once)[1]
    program = "import hf_vivae, json, sys\n" + (
        "print(json.dumps([type(hf_vivae.load_classifier('tester/again', revision=one).model).__name__ "
        "for one in json.loads(sys.argv[1])]))"
    )
    commits = json.dumps([first, "main", None, first])
    done = run_forked([commits], code=program, cwd=tmp_path, env=hub.environment(hub.home, WRITE_TOKEN))
    assert done.returncode == 0, done.stderr
    mlp, regression = "MLPForAudioClassification", "LogisticRegressionForAudioClassification"
    assert json.loads(done.stdout.splitlines()[-1]) == [mlp, regression, regression, mlp]


def test_a_push_that_is_killed_leaves_nothing_half_and_can_be_repeated(hub, folders, tmp_path):
    folder = with_new_weights(folders["vit-32-30"], tmp_path / "run")
    argv = [str(folder), "--repo", "tester/killed", "--yes"]
    fault = Fault("PUT", "", "request", times=99, after=1000)
    hub.faults.append(fault)
    process = Fork([ROOT / "recipes" / "push.py", *argv], env=hub.environment(hub.home, WRITE_TOKEN))
    while fault.times == 99:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    fault.times = 0
    assert "model.safetensors" not in hub.store.paths("tester/killed")
    assert "README.md" not in hub.store.paths("tester/killed")
    (printed,) = push(hub, [argv])
    assert "pushed      " in printed
    weights = hub.store.read("tester/killed", "model.safetensors")
    assert weights == (folder / "S01" / "model.safetensors").read_bytes()


def with_new_weights(folder: Path, copy: Path) -> Path:
    """A run whose weights the Hub has in no repository."""
    shutil.copytree(folder, copy)
    file = copy / "S01" / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    return copy


def test_a_busy_hub_and_dropped_connections_are_asked_again(hub, folders, tmp_path):
    faults = [
        Fault("GET", "whoami", 503), Fault("POST", "repos/create", 500), Fault("POST", "validate-yaml", "answer"),
        Fault("POST", "/preupload/", 502), Fault("PUT", "", "request", after=100), Fault("POST", "/commit/", "answer"),
    ]  # fmt: skip
    hub.faults.extend(faults)
    folder = with_new_weights(folders["mlp"], tmp_path / "run")
    (printed,) = push(hub, [[str(folder), "--repo", "tester/busy", "--yes"]])
    assert "pushed      " in printed
    assert [fault.times for fault in faults] == [0] * len(faults)
    assert "model.safetensors" in hub.store.paths("tester/busy")


def test_a_token_that_may_not_write_is_refused(hub, folders, tmp_path):
    argv = [str(folders["mlp"]), "--repo", "tester/refused", "--yes"]
    others = [argv[0], "--repo", "else/where", "--yes"]
    refused, unknown, elsewhere = push(
        hub, [argv, {"HF_TOKEN": "hf_wrong"}, argv, {"HF_TOKEN": WRITE_TOKEN}, others], READ_TOKEN
    )
    assert refused == (
        "error: expected a token that may write to tester/refused, found one that may not; give it that right, or "
        "another name."
    )
    assert unknown.startswith("error: expected a valid Hugging Face token, found one that the Hub does not know")
    assert elsewhere.startswith("error: expected a token that may write to else/where, found one that may not")
    assert ("model", "tester/refused") not in hub.store.repos


def test_a_checkpoint_with_a_pickle_is_neither_pushed_nor_loaded(hub, folders, tmp_path):
    folder = tmp_path / "pickled"
    folder.mkdir()
    for file in (folders["mlp"] / "S01").iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    torch.save({}, folder / "pytorch_model.bin")
    (answer,) = push(hub, [[str(folder), "--repo", "tester/pickled", "--yes"]])
    assert re.search(r"^error: expected .* found no model.safetensors; .*pickled weights are not pushed", answer)
    program = (
        "import sys, hf_vivae\nfrom huggingface_hub import HfApi\nHfApi().create_repo('tester/pickled')\n"
        "HfApi().upload_folder(repo_id='tester/pickled', folder_path=sys.argv[1])\n"
        "hf_vivae.load_classifier('tester/pickled')"
    )
    done = run_forked([folder], code=program, env=hub.environment(hub.home, WRITE_TOKEN))
    assert re.search(
        r"UserError: expected weights of .* as safetensors, found .*\(pickles are not read\)", done.stderr
    )


def test_damaged_weights_are_not_pushed(hub, folders, tmp_path):
    folder = shutil.copytree(folders["mlp"], tmp_path / "run")
    weights = folder / "S01" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (answer,) = push(hub, [[str(folder), "--repo", "tester/damaged"]])
    assert re.search(r"error: expected whole weights in .*model.safetensors, found damaged ones", answer)


def test_what_is_public_is_not_taken_for_private(hub, folders, tmp_path):
    argv = [str(folders["mlp"]), "--repo", "tester/open", "--yes"]
    _, refused = push(hub, [[*argv, "--public"], argv])
    assert refused.startswith("error: expected tester/open to be private, found a public repository; allow that")


def test_a_study_is_pushed_with_a_collection_and_cards_that_link(hub, folders, tmp_path):
    study = tmp_path / "study"
    for name in ("mlp", "vit-32-30", "vit-8-23"):
        shutil.copytree(folders[name], study / name)
    (printed,) = push(hub, [["--all", str(study), "--repo", "tester/study", "--yes"]])
    repos = [f"tester/study-{name}-paper" for name in ("mlp", "vit-32-30", "vit-8-23")]
    (collection,) = hub.store.collections.values()
    assert collection.private
    assert sorted(item["id"] for item in collection.items) == repos
    assert f"collection  {hub.url}/collections/{collection.slug}" in printed
    cards = [hub.store.read(repo, "README.md").decode() for repo in repos]
    for card in cards:
        for repo in repos:
            assert f"](https://huggingface.co/{repo})" in card


def test_what_an_evaluation_has_scored_is_not_pushed_with_its_study(folders, tmp_path, capsys):
    shutil.copytree(folders["mlp"], tmp_path / "mlp")
    settings = {"protocol": "other-clips"}
    write_run(tmp_path / "evaluation" / "scored", folds=[0], settings=settings)  # which has no weights
    script(ROOT / "recipes" / "push.py").main(["--all", str(tmp_path), "--repo", "tester/study"])
    assert re.findall(r"^(.*) \(model, private\)$", capsys.readouterr().out, re.MULTILINE) == [
        "tester/study-mlp-paper"
    ]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], r"expected --repo owner/name, found none; name a repository."),
        (["runs", "--repo", "mine"], r"expected --repo owner/name, found mine; name a repository."),
        (["runs", "--repo", "a/gr\u00f6\u00dfe"], r"expected a repository as owner/name of letters, digits"),
        (["--dataset", "--data", "vivea", "--repo", "a/b"], r"found 'vivea' \(did you mean vivae\?\)"),
        (["--repo", "a/b"], r"expected a run folder or --dataset, found none; give one of the two."),
        (["runs", "--repo", "a/b", "--dataset"], r"expected a run folder or --dataset, found both"),
        (["--repo", "a/b", "--space"], r"expected Hub ids of models with --space, found none"),
        (["--repo", "a/b", "--dataset", "--all"], r"--dataset, --all and --space exclude each other"),
        (["one", "two", "--repo", "a/b"], r"expected one run folder, found 2"),
        (["runs", "--repo", "a/b", "--data", "noise"], r"expected --dataset with --data, found none"),
        (["runs", "--repo", "a/b", "--licence", "mit"], r"unknown argument '--licence' \(did you mean --license\?\)"),
        (["--repo", "a/b", "--dataset", "--seed", "-1"], r"expected --seed of 0 to 4294967295, found -1; 42 is usual"),
        (["nowhere", "--repo", "a/b"], r"expected a folder with runs, found no folder nowhere"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(argv, sentence):
    with pytest.raises(ValueError, match=sentence):
        script(ROOT / "recipes" / "push.py").main(argv)


def test_a_refusal_leaves_no_trace():
    done = run_forked([ROOT / "recipes" / "push.py", "--repo", "mine"])
    assert done.returncode == 1
    assert done.stderr == "error: expected --repo owner/name, found mine; name a repository.\n"
