"""A corpus as a repository of Parquet files: the same rows, labels, splits and bytes, and no folder's name."""

import dataclasses
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from dataset_repos import PROTOCOL, expected_rows, folds_of, write
from datasets import Audio, Dataset, concatenate_datasets, load_dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_vivae.corpus import Corpus, read_folder, read_vivae
from hf_vivae.hub import dataset as dataset_repo
from hf_vivae.splits.folds import PARTS
from hf_vivae.validation import UserError

COLUMNS = ["audio", "file", "speaker", "emotion", "intensity", "item", "duration", "core", "fold"]


def shards(folder: Path) -> dict[str, list[str]]:
    files = sorted((folder / "data").iterdir())
    return {
        split: [str(file) for file in files if file.name.startswith(split)]
        for split in (*PARTS, "rest")
        if any(file.name.startswith(split) for file in files)
    }


def undecoded(dataset: Dataset) -> list[dict]:
    return list(dataset.cast_column("audio", Audio(decode=False)))


def rows_without_fold(rows: list[dict]) -> dict[str, dict]:
    return {row["file"]: {name: value for name, value in row.items() if name != "fold"} for row in rows}


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


def test_splits_are_the_parts_of_the_first_fold_and_share_no_clip(dataset_repos):
    for name, (corpus, folder) in dataset_repos.items():
        first, files = folds_of(corpus, PROTOCOL[name])[0], corpus.dataset["file"]
        loaded = {split: list(dataset["file"]) for split, dataset in load_dataset(str(folder)).items()}
        assert loaded == {part: [files[row] for row in getattr(first, part)] for part in PARTS}
        assert len(set().union(*loaded.values())) == sum(map(len, loaded.values())) == len(corpus.dataset)


def test_fold_names_the_fold_that_tests_the_clip(dataset_repos):
    for name, (corpus, folder) in dataset_repos.items():
        loaded = concatenate_datasets(list(load_dataset(str(folder)).values()))
        tested, folds = dict(zip(loaded["file"], loaded["fold"], strict=True)), folds_of(corpus, PROTOCOL[name])
        for row, file in enumerate(corpus.dataset["file"]):
            tests = [fold.name for fold in folds if row in fold.test]
            assert tests == ([tested[file]] if tested[file] else [])
    assert None in tested.values(), "random-80-20 tests a fifth of the clips"


def test_clips_that_the_first_fold_leaves_out_are_in_rest(vivae, tmp_path):
    first = folds_of(vivae, "cross-intensity")[0]
    used = set(first.train + first.validation + first.test)
    assert len(used) < len(vivae.dataset), "or this test cannot fail"
    loaded = load_dataset(str(write(vivae, tmp_path, "cross-intensity")))
    rest = [file for row, file in enumerate(vivae.dataset["file"]) if row not in used]
    assert list(loaded["rest"]["file"]) == rest
    assert sum(len(split) for split in loaded.values()) == len(vivae.dataset)
    assert "The split `rest` contains the clips that this fold leaves out." in (tmp_path / "README.md").read_text()


def test_repeated_it_is_the_same_bytes_from_another_folder_or_the_archive(vivae, tiny_vivae, dataset_repos, tmp_path):
    moved = shutil.copytree(tiny_vivae, tmp_path / "elsewhere")
    with zipfile.ZipFile(tmp_path / "VIVAE.zip", "w") as archive:
        for clip in sorted((tiny_vivae / "full_set").iterdir()):
            archive.write(clip, f"VIVAE/full_set/{clip.name}")
    root = dataset_repos["vivae"][1]
    first = {file.relative_to(root): file.read_bytes() for file in files_of(root)}
    sources = [vivae, read_vivae(moved, allow_partial=True), read_vivae(tmp_path / "VIVAE.zip", allow_partial=True)]
    for number, corpus in enumerate(sources):
        again = write(corpus, tmp_path / str(number))
        assert {file.relative_to(again): file.read_bytes() for file in files_of(again)} == first
    write(vivae, again)
    assert {file.relative_to(again): file.read_bytes() for file in files_of(again)} == first, "over an older copy"


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def test_no_folder_of_this_machine_is_published(repo):
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
    corpus = read_folder(tmp_path)
    assert set(corpus.dataset["file"]) == {f"{take}.wav" for take in range(12)}, "no folder of this machine"
    names = [f"{tmp_path}/{name}" if name != "0.wav" else name for name in corpus.dataset["file"]]
    other = Corpus("folder", corpus.dataset.remove_columns("file").add_column("file", names))
    with pytest.raises(ValueError, match=r"expected names of clips below their folder, found 11 outside"):
        write(other, tmp_path / "repo", "random-80-20")
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
        match=rf"expected the files of 48 clips, found none for 1 of them \({gone.name}\): restore the files",
    ):
        write(corpus, tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_a_file_is_there_whole_or_not_at_all(vivae, tmp_path, monkeypatch):
    embed, left = dataset_repo._embed, iter(range(10))  # row groups of 4 clips

    def break_down(*arguments):
        if next(left, None) is None:
            raise OSError("disk on fire")
        return embed(*arguments)

    monkeypatch.setattr(dataset_repo, "_embed", break_down)
    monkeypatch.setattr(dataset_repo, "GROUP_CLIPS", 4)
    with pytest.raises(OSError, match="disk on fire"):
        write(vivae, tmp_path)
    whole = files_of(tmp_path)
    assert [file.name for file in whole] == ["train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"]
    assert all(pq.read_table(file).num_rows for file in whole)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["README.md"], "found other files in"),
        (["data/train-00000-of-00001.parquet"], "found other files in"),
        (["run.json"], "found the run.json of a run in"),
    ],
)
def test_other_files_are_not_overwritten(files, words, vivae, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine, of hf_vivae")
    with pytest.raises(UserError, match=rf"^expected a folder .*--output_dir.*, {words} {tmp_path}; give another"):
        write(vivae, tmp_path)
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()} == {*files}
    assert [(tmp_path / name).read_text() for name in files] == ["mine, of hf_vivae"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc takes no folder, from root neither")
def test_a_folder_that_cannot_be_made_is_one_sentence(vivae):
    with pytest.raises(UserError, match=r"^expected a folder to write to as --output_dir, found /proc/x \("):
        write(vivae, Path("/proc/x"))
