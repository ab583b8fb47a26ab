"""Label maps: new labels in place of those of a corpus, the map in a run's identity, and files that are no maps."""

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from runner import flags, run

from hf_vivae.corpus import EMOTIONS, Corpus, load_corpus, read_folder
from hf_vivae.corpus.label_map import apply_label_map
from hf_vivae.corpus.schema import LabelMap, clip_digests
from hf_vivae.validation import UserError

VALENCE = {
    "achievement": "positive", "anger": "negative", "fear": "negative", "pain": None, "pleasure": "positive",
    "surprise": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Three labels, two clips of each, with a speaker in the name."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for label in ("cough", "laugh", "sob"):
        (root / label).mkdir()
        for speaker in ("A", "B"):
            soundfile.write(root / label / f"{speaker}.wav", 0.1 * rng.standard_normal(2400), 8000)
    return root


def write(folder: Path, text: str) -> Path:
    file = folder / "cries.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_labels_are_replaced_left_out_and_counted(clips, tmp_path, caplog):
    file = write(tmp_path, "laugh: joy\nsob: grief\ncough: null\nscream: grief\n")
    plain = read_folder(clips)
    with caplog.at_level(logging.WARNING):
        corpus = load_corpus("folder", clips, label_map=file)
    assert caplog.messages == [
        "folder clips by the label map cries: laugh -> joy 2, sob -> grief 2; left out: cough 2."
    ]
    dataset = corpus.dataset
    names = dataset.features["emotion"].names
    assert names == ["grief", "joy"]
    assert [(Path(row["file"]).parent.name, names[row["emotion"]]) for row in dataset] == [
        ("laugh", "joy"), ("laugh", "joy"), ("sob", "grief"), ("sob", "grief"),
    ]  # fmt: skip
    assert dataset.column_names == plain.dataset.column_names
    digests = dict(zip(plain.dataset["file"], clip_digests(plain.dataset), strict=True))
    assert dict(zip(dataset["file"], clip_digests(dataset), strict=True)).items() <= digests.items()
    targets = {"laugh": "joy", "sob": "grief", "cough": None, "scream": "grief"}
    assert corpus.label_map == LabelMap("cries", targets)
    assert corpus.label_map.text == ("by the map cries: laugh -> joy, sob -> grief, scream -> grief; left out: cough")
    assert corpus.title == "folder clips (labels by cries)"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "anger: a\nfear: b\n",
            "expected a label map for the folder clips, whose labels are cough, laugh, sob, found none of them in "
            "cries, which names anger, fear; give the --label_map of these clips.",
        ),
        ("{}", "found none of them in cries, which names no label; give the --label_map of these clips."),
        (
            "laugh: joy\nsobs: grief\ncough: null\n",
            "expected every label of the folder clips in the label map cries, found none for sob (did you mean "
            "sobs?); add them, with null to leave their clips out.",
        ),
        (
            "laugh: joy\nsob: joy\ncough: null\n",
            "expected a label map that keeps at least two labels, found joy in cries; correct it.",
        ),
        ("laugh: 1\n", "expected lines `label: new label` or `label: null` in {file}, found other values; put"),
        ("yes: joy\n", "expected lines `label: new label` or `label: null` in {file}, found other values; put"),
        ("- laugh\n", "expected `key: value` lines in {file}, found list; correct it."),
    ],
)
def test_a_file_that_is_no_map_of_the_corpus_is_refused(text, sentence, clips, tmp_path):
    file = write(tmp_path, text)
    with pytest.raises(UserError, match=re.escape(sentence.replace("{file}", str(file)))):
        load_corpus("folder", clips, label_map=file)


def test_a_map_that_is_not_there_is_named(clips, tmp_path):
    with pytest.raises(UserError, match=r"expected a file to read, found .*absent.yaml \(No such file"):
        load_corpus("folder", clips, label_map=tmp_path / "absent.yaml")


def test_a_map_takes_the_place_of_that_of_emogators_six_categories(clips, tmp_path, monkeypatch):
    asked = []

    def read(path, categories, allow_partial, on_bad_audio) -> Corpus:
        asked.append(categories)
        return read_folder(clips)

    monkeypatch.setattr("hf_vivae.corpus.read_emogator", read)
    file = write(tmp_path, "laugh: joy\nsob: grief\ncough: null\n")
    assert load_corpus("emogator", label_map=file).label_map.name == "cries"
    load_corpus("emogator", label_map=file, categories=["Awe", "Anger"])
    load_corpus("emogator")
    assert asked == ["all", ["Awe", "Anger"], ("vivae",)]


def test_a_run_has_its_map_and_is_not_continued_with_another(tiny_vivae, tmp_path, monkeypatch):
    file = tmp_path / "valence.yaml"
    file.write_text(json.dumps(VALENCE))
    argv = flags(tiny_vivae, tmp_path / "run", "mlp", "--num_train_epochs", "1")
    monkeypatch.chdir(tmp_path)
    results = run([*argv, "--label_map", "valence.yaml"])
    assert (results["labels"], results["label_map"]) == (["negative", "positive"], "valence")
    record = json.loads((tmp_path / "run" / "S01" / "run.json").read_text())
    assert record["corpus"]["label_map"] == {"name": "valence", "targets": VALENCE}
    assert record["corpus"]["clips"] == 32
    assert record["run"]["label_map"] == str(file.resolve())
    with pytest.raises(UserError, match=r"holds another run, which differs in label_map \(was"):
        run(argv)
    # the same labels of the same clips under other names: the digest of the clips is the same
    file.write_text(json.dumps({label: target and target.upper() for label, target in VALENCE.items()}))
    with pytest.raises(UserError, match="holds another run, which differs in label_map "):
        run([*argv, "--label_map", "valence.yaml"])


def test_read_and_applied_in_python():
    from hf_vivae.corpus.schema import build_dataset

    rows = [
        {"audio": {"bytes": b"", "path": None}, "file": emotion, "speaker": None, "emotion": emotion,
         "intensity": None, "item": emotion, "duration": 1.0}
        for emotion in EMOTIONS
    ]  # fmt: skip
    corpus = apply_label_map(Corpus("vivae", build_dataset(rows)), LabelMap("valence", VALENCE))
    assert corpus.dataset["emotion"][:] == [1, 0, 0, 1]
