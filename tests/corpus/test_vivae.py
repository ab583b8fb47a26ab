"""VIVAE from folders and archives: the same columns, and one error that names all problems."""

import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import Audio, ClassLabel, Value
from vivae_copies import CLIP, NAMES, archived, error_of, zip_of

from hf_vivae.audio import load
from hf_vivae.corpus import load_vivae
from hf_vivae.corpus.manifest import read_manifest
from hf_vivae.corpus.vivae import read_vivae

pytestmark = pytest.mark.usefixtures("short_vivae")


def columns(dataset, *names: str) -> list:
    return [dataset[name] for name in names or ("file", "speaker", "emotion", "intensity", "item", "duration")]


def refused(message: str, **options) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_vivae(**options)


class TestWhole:
    def test_every_clip_has_its_labels(self, whole_vivae):
        read = read_vivae(whole_vivae)
        assert (read.name, read.problems, len(read.dataset)) == ("vivae", (), 1085)
        rows = read.dataset.remove_columns("audio").to_list()
        emotions, intensities = (read.dataset.features[name].names for name in ("emotion", "intensity"))
        named = [
            {
                "file_name": row["file"],
                "speaker": row["speaker"],
                "emotion": emotions[row["emotion"]],
                "intensity": intensities[row["intensity"]],
                "item": row["item"],
            }
            for row in rows
        ]
        assert named == read_manifest()
        assert {row["duration"] for row in rows} == {0.05}
        assert {row["core"] for row in rows} == {None}

    def test_the_manifest_has_the_published_counts(self):
        assert sorted(set(NAMES)) == NAMES
        assert len(NAMES) == 1085
        items = [row["item"] for row in read_manifest()]
        assert [sum(len(item) == digits for item in items) for digits in (1, 2, 3)] == [1, 967, 117]

    def test_columns_are_those_of_every_corpus(self, whole_vivae):
        dataset = load_vivae(whole_vivae)
        assert dataset.features["audio"] == Audio(sampling_rate=44100, decode=False)
        assert dataset.features["emotion"] == ClassLabel(
            names=["achievement", "anger", "fear", "pain", "pleasure", "surprise"]
        )
        assert dataset.features["intensity"] == ClassLabel(names=["low", "moderate", "strong", "peak"])
        names = ["audio", "file", "speaker", "emotion", "intensity", "item", "duration", "core"]
        assert list(dataset.features) == names
        assert dataset.features["core"] == Value("bool")

    def test_folder_rows_hold_paths_and_archive_rows_hold_bytes(self, whole_vivae, tmp_path):
        folder = load_vivae(whole_vivae)
        zipped = load_vivae(archived(tmp_path / "VIVAE.zip", whole_vivae))
        assert folder[0]["audio"] == {"bytes": None, "path": str(whole_vivae / "full_set" / NAMES[0])}
        assert zipped[0]["audio"] == {"bytes": CLIP, "path": NAMES[0]}
        assert columns(folder) == columns(zipped)
        for dataset in (folder, zipped):
            np.testing.assert_array_equal(load(dataset[7]["audio"])[0], load(CLIP)[0])

    def test_the_dataset_supports_the_methods_of_datasets(self, tiny_vivae):
        dataset = read_vivae(tiny_vivae, allow_partial=True).dataset
        again = pickle.loads(pickle.dumps(dataset))
        assert again[3] == dataset[3]
        assert dataset.select([5, 2])["file"] == [dataset[5]["file"], dataset[2]["file"]]
        counted = dataset.map(lambda audio: {"samples": len(load(audio)[0])}, input_columns=["audio"])
        assert counted["samples"] == [round(44100 * seconds) for seconds in dataset["duration"]]
        assert counted.features["audio"] == dataset.features["audio"]


class TestLayouts:
    @pytest.mark.parametrize("root", ["full_set", "VIVAE/full_set", "a/b/c/full_set"])
    def test_full_set_may_lie_at_any_depth(self, tmp_path, whole_vivae, root):
        (tmp_path / root).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / root).symlink_to(whole_vivae / "full_set")
        for path in (tmp_path, tmp_path / root):
            assert len(load_vivae(path)) == 1085

    def test_full_set_may_have_a_subfolder_per_emotion(self, tmp_path, whole_vivae):
        for name in NAMES:
            folder = tmp_path / "full_set" / name.split("_")[1]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).hardlink_to(whole_vivae / "full_set" / name)
        assert columns(load_vivae(tmp_path)) == columns(load_vivae(whole_vivae))

    def test_full_set_may_be_the_working_folder(self, whole_vivae, monkeypatch):
        monkeypatch.chdir(whole_vivae / "full_set")
        assert load_vivae(".")[0]["audio"]["path"] == str(whole_vivae / "full_set" / NAMES[0])

    def test_a_folder_may_hold_the_archive(self, tmp_path, whole_vivae):
        archived(tmp_path / "VIVAE.zip", whole_vivae)
        assert len(load_vivae(tmp_path)) == 1085

    def test_files_that_systems_create_are_no_clips(self, broken_vivae, tmp_path):
        clutter = {
            "__MACOSX/VIVAE/full_set/S01_anger_low_01.wav": b"",
            "VIVAE/full_set/._S01_anger_low_01.wav": b"",
            "VIVAE/full_set/.DS_Store": b"",
            "VIVAE/full_set/readme.txt": b"hello",
            "VIVAE/core_set/.DS_Store": b"",
            "__MACOSX/VIVAE/core_set/S01_anger_low_01.wav": b"",
        }
        for name, content in clutter.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
        assert read_vivae(tmp_path).problems == ()
        members = {f"VIVAE/full_set/{name}": CLIP for name in NAMES}
        assert read_vivae(zip_of(tmp_path / "VIVAE.zip", members | clutter)).problems == ()

    def test_suffixes_in_capitals_and_backslashes_are_read(self, tmp_path):
        members = {f"VIVAE\\full_set\\{name[:-4]}.WAV": CLIP for name in NAMES}
        dataset = load_vivae(zip_of(tmp_path / "VIVAE.zip", members))
        assert dataset["file"] == NAMES
        assert dataset[0]["audio"]["path"] == f"{NAMES[0][:-4]}.WAV"

    def test_core_set_is_counted(self, tmp_path):
        (tmp_path / "core_set").mkdir()
        for name in NAMES[:480]:
            (tmp_path / "core_set" / name).write_bytes(CLIP)
        read = read_vivae(tmp_path, subset="core")
        assert (read.name, len(read.dataset), read.problems) == ("vivae-core", 480, ())
        assert set(read.dataset["core"]) == {True}
        (tmp_path / "core_set" / NAMES[0]).unlink()
        problem = "wrong number: 479 clips in core_set, not 480; their names are not known"
        assert error_of(tmp_path, subset="core").problems == (problem,)
        assert read_vivae(tmp_path, subset="core", allow_partial=True).problems == (problem,)


class TestCoreColumn:
    """The column core: true for names that the core set contains, whose sound is not read."""

    @pytest.fixture
    def both_sets(self, broken_vivae) -> Path:
        (broken_vivae / "core_set" / "sub").mkdir(parents=True)
        for number, name in enumerate(NAMES[::2][:480]):
            (broken_vivae / "core_set" / ("sub" if number % 2 else "") / name).write_bytes(b"")
        return broken_vivae

    @pytest.mark.parametrize("zipped", [False, True])
    def test_it_is_true_for_the_names_of_core_set(self, both_sets, tmp_path, zipped):
        path = archived(tmp_path / "VIVAE.zip", both_sets) if zipped else both_sets
        read = read_vivae(path)
        assert read.problems == ()
        chosen = [file for file, core in zip(*columns(read.dataset, "file", "core"), strict=True) if core]
        assert chosen == NAMES[::2][:480]
        assert set(read.dataset["core"]) == {True, False}

    def test_it_is_unknown_where_only_full_set_is_given(self, both_sets):
        assert set(load_vivae(both_sets / "full_set")["core"]) == {None}

    def test_a_core_set_with_other_names_is_ignored_with_a_warning(self, both_sets, caplog):
        (both_sets / "core_set" / NAMES[0]).rename(both_sets / "core_set" / "S01_anger_low_99.wav")
        read = read_vivae(both_sets)
        assert "core_set has names that full_set does not have (S01_anger_low_99.wav): " in caplog.text
        assert (read.problems, set(read.dataset["core"])) == ((), {None})

    def test_two_core_sets_are_refused(self, both_sets):
        shutil.copytree(both_sets / "core_set", both_sets / "again" / "core_set")
        root = both_sets.name
        refused(
            f"expected one folder core_set in {both_sets}, found 2 ({root}/again/core_set, {root}/core_set); "
            "give one of them with --data_dir.",
            path=both_sets,
        )
