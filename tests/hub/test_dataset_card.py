"""The card of a dataset repository: its metadata for `datasets` and the Hub, its text and its code."""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from dataset_repos import CARDS, LICENSE, REPO, expected_rows, folds_of, write
from datasets import Audio, Dataset, DatasetInfo, load_dataset, load_dataset_builder
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard
from loopback_hub.card_rules import check_card

from hf_vivae.corpus import EMOTIONS, INTENSITIES, Corpus
from hf_vivae.corpus.label_map import apply_label_map
from hf_vivae.corpus.schema import LabelMap
from hf_vivae.hub import dataset as dataset_repo
from hf_vivae.hub.dataset import write_dataset_repo
from hf_vivae.hub.licenses import LICENSES
from hf_vivae.splits.folds import PARTS


def undecoded(dataset: Dataset) -> list[dict]:
    return list(dataset.cast_column("audio", Audio(decode=False)))


def test_metadata_are_those_that_datasets_and_the_hub_know(repo):
    corpus, folder = repo
    card = DatasetCard.load(folder / "README.md")
    info = DatasetInfosDict.from_dataset_card_data(card.data)["default"]
    loaded = load_dataset(str(folder))
    assert info.features == loaded["train"].features
    assert {name: split.num_examples for name, split in info.splits.items()} == {
        name: len(split) for name, split in loaded.items()
    }
    assert info.download_size == sum(file.stat().st_size for file in (folder / "data").iterdir())
    assert info.dataset_size == sum(split.num_bytes for split in info.splits.values())
    assert load_dataset_builder(str(folder)).info.splits.total_num_examples == len(corpus.dataset)
    files = MetadataConfigs.from_dataset_card_data(card.data)["default"]["data_files"]
    named = {file for entry in files for file in entry["path"]}
    assert named == {f"data/{file.name}" for file in (folder / "data").iterdir()}
    assert card.data.license == LICENSE[corpus.name]
    assert card.data.license in LICENSES
    assert card.data.task_categories == ["audio-classification"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.language == (None if corpus.name == "folder" else ["zxx"])
    assert check_card((folder / "README.md").read_text(), "dataset") == ([], [])


@pytest.mark.parametrize(
    ("clips", "category"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (1085, "1K<n<10K"), (10_000, "10K<n<100K"), (99_999, "10K<n<100K")],
)
def test_size_category(clips, category, vivae):
    row = dataclasses.replace(vivae, dataset=vivae.dataset.select([0] * clips))
    info = DatasetInfo(features=row.dataset.features)
    text = dataset_repo._make_metadata(row, "title", "mit", info, {"train": ["data/a.parquet"]})
    assert yaml.safe_load(text)["size_categories"] == [category]


def blocks(folder: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def test_every_block_of_the_card_runs(dataset_repos):
    for name, (corpus, folder) in dataset_repos.items():
        found = blocks(folder)
        assert len(found) == (2 if name == "folder" else 3)
        spaces = []
        for block in found:
            assert f'"{REPO}"' in block
            spaces.append({})
            exec(block.replace(REPO, str(folder)), spaces[-1])
        files = list(load_dataset(str(folder), split="test")["file"])
        first = expected_rows(corpus)[files[0]]
        samples, rate = soundfile.read(io.BytesIO(first["audio"]["bytes"]), dtype="float32")
        assert spaces[0]["emotions"] == corpus.dataset.features["emotion"].names
        assert spaces[1]["sampling_rate"] == rate
        np.testing.assert_array_equal(spaces[1]["samples"], samples)
        assert spaces[1]["emotion"] == spaces[0]["emotions"][first["emotion"]]
        if len(found) == 3:
            second = folds_of(corpus, "speaker-k-fold")[1]
            names = {corpus.dataset["file"][row] for row in second.test}
            assert set(spaces[2]["test"]["file"]) == names


def body(corpus: Corpus, folder: Path) -> str:
    return DatasetCard.load(folder / "README.md").text.lstrip()


def test_card_of_vivae_names_its_authors_and_contents(dataset_repos):
    text = body(*dataset_repos["vivae"])
    assert text.startswith("# VIVAE, repackaged as Parquet\n")
    assert "48 non-verbal vocalisations" in text
    assert "4 speakers portrayed achievement, anger, fear, pain, pleasure, surprise" in text
    assert "Pleasure is sexual pleasure: the clips are not for every audience." in text
    assert "which are null: `core`." in text  # this VIVAE has no folder core_set
    assert "| `core` |" not in text
    assert "| `speaker` | string |" in text
    assert "This is a repackaging and not the original" in text
    assert "doi = {10.5281/zenodo.4066235}" in text
    assert "[CC BY-NC 4.0](https://creativecommons.org/licenses/by-nc/4.0/)" in text
    assert "| anger | 2 | 2 | 2 | 2 | 8 |" in text
    assert "| S03 | 2 | 2 | 2 | 2 | 2 | 2 | 12 |" in text
    assert "Missing, left out or not as expected, 1037 in all:" in text  # 1085 - 48
    assert "- and 987 more" in text
    limits = text.split("## Limits\n\n")[1].split("\n\n")[0]
    assert limits.count(".") == 2
    assert "surveillance, hiring" in limits
    splits = {part: set(load_dataset(str(dataset_repos["vivae"][1]), split=part)["speaker"]) for part in PARTS}
    for part, speakers in splits.items():
        assert re.search(rf"^\| {part} \| \d+ \| [\d.]+ \| {', '.join(sorted(speakers))} \|$", text, re.MULTILINE)


@pytest.mark.parametrize(("name", "start"), [("synthetic", "**Synthetic: "), ("noise", "**White noise under ")])
def test_card_of_generated_clips_begins_with_that_and_does_not_claim_vivae(name, start, synthetic, tmp_path):
    corpus = dataclasses.replace(synthetic, name=name)
    card = DatasetCard.load(write(corpus, tmp_path) / "README.md")
    assert card.text.lstrip().startswith(start)
    assert "no result on them is evidence about VIVAE" in card.text.lstrip().split("\n")[0]
    assert "bibtex" not in card.text
    assert "vivae" not in card.data.tags
    assert card.data.license == "apache-2.0"


def test_card_of_a_folder_shows_its_labels_as_they_are(dataset_repos):
    text = body(*dataset_repos["folder"])
    assert text.startswith("# clips\n")
    assert "16 labelled clips" in text
    assert "with the labels a\\|b, laugh." in text
    assert "Clips by emotion." in text
    assert "| laugh | 8 |\n" in text
    assert "which are null: `speaker`, `intensity`, `core`." in text
    assert "| `speaker` |" not in text
    assert "files were uploaded by the publisher of this repository, who has to name their authors." in " ".join(
        text.split()
    )
    assert "emotion-recognition" not in DatasetCard.load(dataset_repos["folder"][1] / "README.md").data.tags
    assert "VIVAE's authors" not in text
    assert "each clip at its own rate" in text
    assert "- bad audio: laugh/broken.wav" in text
    assert "Speakers are not known, so the same people may be in `train` and `test`." in text
    assert "known speakers" not in text
    assert "`cc-by-sa-4.0`, as confirmed by the publisher of this repository." in text


def test_a_repository_under_another_license_is_not_written(vivae, tmp_path):
    with pytest.raises(ValueError, match=r"expected the licence cc-by-nc-4\.0, because VIVAE's authors"):
        write_dataset_repo(vivae, "speaker-k-fold", 42, CARDS, REPO, "mit", tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_emotions_and_intensities_are_those_of_the_schema(dataset_repos):
    features = load_dataset(str(dataset_repos["vivae"][1]), split="train").features
    assert features["emotion"].names == list(EMOTIONS)
    assert features["intensity"].names == list(INTENSITIES)


def test_card_of_mapped_labels_states_the_map(dataset_repos, tmp_path):
    corpus = dataset_repos["folder"][0]
    mapped = apply_label_map(corpus, LabelMap("to-moods", {"a|b": "grief", "laugh": "joy", "sigh": None}))
    text = body(mapped, write(mapped, tmp_path / "mapped", "random-80-20"))
    assert "\n\nLabels by the map to-moods: a\\|b -\\> grief, laugh -\\> joy; left out: sigh.\n\n" in text
    assert "Labels by the map" not in body(*dataset_repos["folder"])
