"""A corpus as a repository of Parquet files: the same rows, labels, splits and bytes, and no folder's name."""

import dataclasses
import io
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from datasets import Audio, Dataset, concatenate_datasets, load_dataset, load_dataset_builder
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st
from loopback_hub.card_rules import check_card

from hf_vivae import dataset_repo
from hf_vivae.corpus import EMOTIONS, INTENSITIES, Corpus, read_folder, read_vivae, task_labels
from hf_vivae.corpus.synthetic import synthesize_clip
from hf_vivae.corpus.vivae import read_manifest
from hf_vivae.dataset_repo import write_dataset_repo
from hf_vivae.licenses import LICENSES
from hf_vivae.splits import PARTS, make_folds

CARDS = Path(__file__).parents[1] / "model_cards"
REPO = "someone/clips"
COLUMNS = ["audio", "file", "speaker", "emotion", "intensity", "item", "duration", "core", "fold"]
PROTOCOL = {"vivae": "speaker-k-fold", "synthetic": "speaker-k-fold", "folder": "random-80-20"}
LICENSE = {"vivae": "cc-by-nc-4.0", "synthetic": "apache-2.0", "noise": "apache-2.0", "folder": "cc-by-sa-4.0"}


def write(corpus: Corpus, output: Path, protocol: str = "speaker-k-fold", seed: int = 42) -> Path:
    write_dataset_repo(corpus, protocol, seed, CARDS, REPO, LICENSE[corpus.name], output)
    return output


@pytest.fixture(scope="module")
def vivae(tiny_vivae: Path) -> Corpus:
    return read_vivae(tiny_vivae, allow_partial=True)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Two clips of each of six speakers and emotions as the synthesiser makes them."""
    root = tmp_path_factory.mktemp("synthetic")
    (root / "full_set").mkdir()
    taken = {}
    for row in read_manifest():
        taken.setdefault((row["speaker"], row["emotion"]), []).append(row["file_name"])
    for (speaker, _), names in taken.items():
        for name in names[:2] if speaker <= "S06" else []:
            soundfile.write(root / "full_set" / name, synthesize_clip(name), 44100, subtype="PCM_16")
    return dataclasses.replace(read_vivae(root, allow_partial=True), name="synthetic", problems=())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Somebody's clips: two labels, two rates, FLAC, no speakers, one file that is no sound."""
    root = tmp_path_factory.mktemp("my clips")
    rng = np.random.default_rng(0)
    for label in ("a|b", "laugh"):
        (root / label).mkdir()
        for take in range(8):
            soundfile.write(root / label / f"{take}.flac", 0.1 * rng.standard_normal(1600), 16000 if take else 8000)
    (root / "laugh" / "broken.wav").write_bytes(b"RIFF")
    return read_folder(root, on_bad_audio="skip")


@pytest.fixture(scope="module")
def repos(vivae, synthetic, folder, tmp_path_factory) -> dict[str, tuple[Corpus, Path]]:
    root = tmp_path_factory.mktemp("repos")
    return {
        "vivae": (vivae, write(vivae, root / "vivae")),
        "synthetic": (synthetic, write(synthetic, root / "synthetic")),
        "folder": (folder, write(folder, root / "folder", PROTOCOL["folder"])),
    }


@pytest.fixture(params=["vivae", "synthetic", "folder"])
def repo(request, repos) -> tuple[Corpus, Path]:
    return repos[request.param]


def shards(folder: Path) -> dict[str, list[str]]:
    files = sorted((folder / "data").iterdir())
    return {
        split: [str(file) for file in files if file.name.startswith(split)]
        for split in (*PARTS, "rest")
        if any(file.name.startswith(split) for file in files)
    }


def undecoded(dataset: Dataset) -> list[dict]:
    return list(dataset.cast_column("audio", Audio(decode=False)))


def expected_rows(corpus: Corpus) -> dict[str, dict]:
    """Rows of the corpus by file name, the sound read here."""
    rows = {}
    for row in corpus.dataset:
        sound = row["audio"]["bytes"] or Path(row["audio"]["path"]).read_bytes()
        rows[row["file"]] = row | {"audio": {"bytes": sound, "path": row["file"].rpartition("/")[2]}}
    return rows


def rows_without_fold(rows: list[dict]) -> dict[str, dict]:
    return {row["file"]: {name: value for name, value in row.items() if name != "fold"} for row in rows}


def folds_of(corpus: Corpus, protocol: str):
    return make_folds(corpus.dataset, protocol, task_labels(corpus.dataset, "emotion")[0], 42)


def test_parquet_gives_rows_labels_and_bytes_of_the_corpus(repo):
    corpus, folder = repo
    dataset = load_dataset("parquet", data_files=shards(folder))
    every = concatenate_datasets(list(dataset.values()))
    assert len(every) == len(corpus.dataset)
    assert rows_without_fold(undecoded(every)) == expected_rows(corpus)
    assert list(every.features) == COLUMNS
    assert every.features["audio"] == Audio(sampling_rate=corpus.dataset.features["audio"].sampling_rate)
    assert every.features["audio"].decode
    for column in COLUMNS[1:-1]:
        assert every.features[column] == corpus.dataset.features[column]


def test_the_folder_loads_by_its_card_as_its_parquet_does(repo):
    _, folder = repo
    by_card, by_files = load_dataset(str(folder)), load_dataset("parquet", data_files=shards(folder))
    assert list(by_card) == list(by_files) == list(PARTS)
    for split in by_files:
        assert by_card[split].features == by_files[split].features
        assert undecoded(by_card[split]) == undecoded(by_files[split])


def test_streaming_gives_the_same_rows(repo):
    _, folder = repo
    for split, dataset in load_dataset(str(folder)).items():
        streamed = load_dataset(str(folder), split=split, streaming=True)
        assert list(streamed.decode(False)) == undecoded(dataset)
        assert list(streamed.cast_column("audio", Audio(decode=False))) == undecoded(dataset)


def test_splits_are_the_parts_of_the_first_fold_and_share_no_clip(repos):
    for name, (corpus, folder) in repos.items():
        first, files = folds_of(corpus, PROTOCOL[name])[0], corpus.dataset["file"]
        loaded = {split: list(dataset["file"]) for split, dataset in load_dataset(str(folder)).items()}
        assert loaded == {part: [files[row] for row in getattr(first, part)] for part in PARTS}
        assert len(set().union(*loaded.values())) == sum(map(len, loaded.values())) == len(corpus.dataset)


def test_fold_names_the_fold_that_tests_the_clip(repos):
    for name, (corpus, folder) in repos.items():
        loaded = concatenate_datasets(list(load_dataset(str(folder)).values()))
        told, folds = dict(zip(loaded["file"], loaded["fold"], strict=True)), folds_of(corpus, PROTOCOL[name])
        for row, file in enumerate(corpus.dataset["file"]):
            tests = [fold.name for fold in folds if row in fold.test]
            assert tests == ([told[file]] if told[file] else [])
    assert None in told.values(), "random-80-20 tests a fifth of the clips"


def test_clips_that_the_first_fold_leaves_out_are_in_rest(vivae, tmp_path):
    first = folds_of(vivae, "cross-intensity")[0]
    used = set(first.train + first.validation + first.test)
    assert len(used) < len(vivae.dataset), "or this test says nothing"
    loaded = load_dataset(str(write(vivae, tmp_path, "cross-intensity")))
    rest = [file for row, file in enumerate(vivae.dataset["file"]) if row not in used]
    assert list(loaded["rest"]["file"]) == rest
    assert sum(len(split) for split in loaded.values()) == len(vivae.dataset)
    assert "The split `rest` has the clips that this fold leaves out." in (tmp_path / "README.md").read_text()


def test_repeated_it_is_the_same_bytes_from_another_folder_or_the_archive(vivae, tiny_vivae, repos, tmp_path):
    moved = shutil.copytree(tiny_vivae, tmp_path / "elsewhere")
    with zipfile.ZipFile(tmp_path / "VIVAE.zip", "w") as archive:
        for clip in sorted((tiny_vivae / "full_set").iterdir()):
            archive.write(clip, f"VIVAE/full_set/{clip.name}")
    first = {file.relative_to(repos["vivae"][1]): file.read_bytes() for file in files_of(repos["vivae"][1])}
    sources = [vivae, read_vivae(moved, allow_partial=True), read_vivae(tmp_path / "VIVAE.zip", allow_partial=True)]
    for number, corpus in enumerate(sources):
        again = write(corpus, tmp_path / str(number))
        assert {file.relative_to(again): file.read_bytes() for file in files_of(again)} == first
    write(vivae, again)
    assert {file.relative_to(again): file.read_bytes() for file in files_of(again)} == first, "over an older copy"


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def test_no_folder_of_this_machine_is_told(repo):
    corpus, folder = repo
    with_path = dataclasses.replace(corpus, problems=(f"bad audio: x.wav: found no file at {folder}/d e/x y.wav",))
    if corpus.name != "vivae":  # whose card lists what is missing
        write(with_path, folder.with_name(f"{folder.name}-path"), "random-80-20")
        card = folder.with_name(f"{folder.name}-path") / "README.md"
        assert "- bad audio: x.wav: found no file at x y.wav" in card.read_text()
        assert b"d e/" not in card.read_bytes()
    sources = {os.path.dirname(row["audio"]["path"]) for row in corpus.dataset}
    for file in files_of(folder):
        content = file.read_bytes()
        assert not [place for place in (*sources, str(folder), str(Path.home())) if place.encode() in content]


def test_names_of_clips_that_lead_out_of_their_folder_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["file,label"]
    for take in range(12):
        soundfile.write(tmp_path / f"{take}.wav", 0.1 * rng.standard_normal(1600), 16000)
        lines.append(f"{tmp_path / f'{take}.wav' if take else '0.wav'},{'ab'[take % 2]}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"expected names of clips below their folder, found 11 that lead elsewhere"):
        write(read_folder(tmp_path), tmp_path / "repo", "random-80-20")
    assert not (tmp_path / "repo").exists()


def test_shards_and_row_groups_stay_small(synthetic, tmp_path, monkeypatch):
    size = sum(len(row["audio"]["bytes"]) for row in expected_rows(synthetic).values())
    monkeypatch.setattr(dataset_repo, "SHARD_BYTES", size // 5)
    monkeypatch.setattr(dataset_repo, "GROUP_CLIPS", 7)
    loaded = load_dataset(str(write(synthetic, tmp_path)))
    assert rows_without_fold(undecoded(concatenate_datasets(list(loaded.values())))) == expected_rows(synthetic)
    names = [Path(name).name for name in shards(tmp_path)["train"]]
    assert len(names) > 1
    assert names == [f"train-{index:05d}-of-{len(names):05d}.parquet" for index in range(len(names))]
    for name in names:
        metadata = pq.read_metadata(tmp_path / "data" / name)
        assert all(metadata.row_group(group).num_rows <= 7 for group in range(metadata.num_row_groups))
        assert (tmp_path / "data" / name).stat().st_size < size // 5 + 20_000 * metadata.num_row_groups


@given(
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=40),
    most_bytes=st.integers(1, 200),
    most=st.integers(1, 9),
)
def test_pieces_are_whole_in_order_and_no_larger_than_they_may_be(sizes, most_bytes, most):
    rows = list(range(len(sizes)))
    pieces = dataset_repo._cut(rows, sizes, most_bytes, most)
    assert [row for piece in pieces for row in piece] == rows
    for number, piece in enumerate(pieces):
        assert 1 <= len(piece) <= most
        assert len(piece) == 1 or sum(sizes[row] for row in piece) <= most_bytes
        if number:  # no piece is begun before it must be
            before = pieces[number - 1]
            assert len(before) == most or sum(sizes[row] for row in before) + sizes[piece[0]] > most_bytes


def test_sound_is_read_one_row_group_at_a_time(synthetic, tmp_path, monkeypatch):
    """This bounds memory: sound of one row group is held, and written before the next is read."""
    groups, written = [], []
    embed, write_table = dataset_repo._embed, pq.ParquetWriter.write_table

    def watched_embed(dataset, rows, *others):
        assert len(groups) == len(written)
        groups.append(rows)
        return embed(dataset, rows, *others)

    def watched_write(writer, table):
        written.append(table.num_rows)
        return write_table(writer, table)

    monkeypatch.setattr(dataset_repo, "GROUP_CLIPS", 10)
    monkeypatch.setattr(dataset_repo, "_embed", watched_embed)
    monkeypatch.setattr(pq.ParquetWriter, "write_table", watched_write)
    write(synthetic, tmp_path)
    assert max(written) == 10
    assert sum(written) == len(synthetic.dataset)


def test_a_missing_file_is_one_sentence_and_nothing_is_written(tiny_vivae, tmp_path):
    copy = shutil.copytree(tiny_vivae, tmp_path / "copy")
    corpus = read_vivae(copy, allow_partial=True)
    gone = sorted((copy / "full_set").iterdir())[5]
    gone.unlink()
    with pytest.raises(
        ValueError,
        match=rf"expected the sound of 48 clips, found no file for 1 of them \({gone.name}\): put the files",
    ):
        write(corpus, tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_a_file_is_there_whole_or_not_at_all(vivae, tmp_path, monkeypatch):
    read, left = dataset_repo._read, iter(range(40))

    def break_down(audio):
        if next(left, None) is None:
            raise OSError("disk on fire")
        return read(audio)

    monkeypatch.setattr(dataset_repo, "_read", break_down)
    monkeypatch.setattr(dataset_repo, "GROUP_CLIPS", 4)
    with pytest.raises(OSError, match="disk on fire"):
        write(vivae, tmp_path)
    whole = files_of(tmp_path)
    assert [file.name for file in whole] == ["train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"]
    assert all(pq.read_table(file).num_rows for file in whole)


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
def test_size_category(clips, category, vivae, folder, tmp_path):
    from hf_vivae import dataset_card

    row = dataclasses.replace(vivae, dataset=vivae.dataset.select([0] * clips))
    division = dataset_card.Division("random-80-20", 0, (), {"train": range(clips)})
    info = dataset_repo._info(dataset_repo._features(row.dataset), division, {"train": 1}, 1)
    text = dataset_card._metadata(row, "title", "mit", info, {"train": ["data/a.parquet"]})
    assert yaml.safe_load(text)["size_categories"] == [category]


def blocks(folder: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def test_every_block_of_the_card_runs(repos):
    for name, (corpus, folder) in repos.items():
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


def test_card_of_vivae_says_whose_it_is_and_what_is_in_it(repos):
    text = body(*repos["vivae"])
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
    splits = {part: set(load_dataset(str(repos["vivae"][1]), split=part)["speaker"]) for part in PARTS}
    for part, speakers in splits.items():
        assert re.search(rf"^\| {part} \| \d+ \| [\d.]+ \| {', '.join(sorted(speakers))} \|$", text, re.MULTILINE)


@pytest.mark.parametrize(("name", "start"), [("synthetic", "**Synthetic: "), ("noise", "**White noise under ")])
def test_card_of_generated_clips_says_so_first_and_does_not_claim_vivae(name, start, synthetic, tmp_path):
    corpus = dataclasses.replace(synthetic, name=name)
    card = DatasetCard.load(write(corpus, tmp_path) / "README.md")
    assert card.text.lstrip().startswith(start)
    assert "no result on them says anything about VIVAE" in card.text.lstrip().split("\n")[0]
    assert "bibtex" not in card.text
    assert "vivae" not in card.data.tags
    assert card.data.license == "apache-2.0"


def test_card_of_a_folder_shows_its_labels_as_they_are(repos):
    text = body(*repos["folder"])
    assert text.startswith("# clips\n")
    assert "16 labelled clips" in text
    assert "with the labels a\\|b, laugh." in text
    assert "Clips by emotion." in text
    assert "| laugh | 8 |\n" in text
    assert "which are null: `speaker`, `intensity`, `core`." in text
    assert "| `speaker` |" not in text
    assert "put here by whoever published this repository, who has to name their makers." in " ".join(text.split())
    assert "emotion-recognition" not in DatasetCard.load(repos["folder"][1] / "README.md").data.tags
    assert "VIVAE's authors" not in text
    assert "each clip at its own rate" in text
    assert "- bad audio: laugh/broken.wav" in text
    assert "Who speaks is not known, so the same people may be heard in `train` and `test`." in text
    assert "known speakers" not in text
    assert "`cc-by-sa-4.0`, as whoever published this repository has confirmed." in text


def test_a_repository_under_another_license_is_not_written(vivae, tmp_path):
    with pytest.raises(ValueError, match=r"expected the licence cc-by-nc-4\.0, because VIVAE's authors"):
        write_dataset_repo(vivae, "speaker-k-fold", 42, CARDS, REPO, "mit", tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_emotions_and_intensities_are_those_of_the_schema(repos):
    features = load_dataset(str(repos["vivae"][1]), split="train").features
    assert features["emotion"].names == list(EMOTIONS)
    assert features["intensity"].names == list(INTENSITIES)
