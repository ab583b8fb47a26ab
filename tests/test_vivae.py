"""VIVAE from folders and archives: the same columns each time, and everything amiss named in one error."""

import io
import logging
import pickle
import re
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Audio, ClassLabel, Value

from hf_vivae import corpus
from hf_vivae.audio import load
from hf_vivae.corpus import CorpusError, archive, load_corpus, load_vivae
from hf_vivae.corpus.vivae import read_manifest, read_vivae

CURE = (
    "get VIVAE.zip again from https://doi.org/10.5281/zenodo.4066235, "
    "or use the clips that are good with --allow_partial."
)
NAMES = [row["file_name"] for row in read_manifest()]


def wave(rate=44100, channels=1, seconds=0.05, subtype="PCM_16", value=0.1) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full((int(rate * seconds), channels), value), rate, format="WAV", subtype=subtype)
    return file.getvalue()


CLIP = wave()


@pytest.fixture(scope="session")
def whole_vivae(tmp_path_factory) -> Path:
    """All 1085 names, with a very short sound in each."""
    folder = tmp_path_factory.mktemp("whole") / "VIVAE" / "full_set"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(CLIP)
    return folder.parent


@pytest.fixture
def broken_vivae(whole_vivae, tmp_path) -> Path:
    """All 1085 names that a test may spoil: the same files by hard links."""
    shutil.copytree(whole_vivae, tmp_path / "VIVAE", copy_function=lambda a, b: Path(b).hardlink_to(a))
    return tmp_path / "VIVAE"


def spoil(root: Path, name: str, content: bytes | None) -> None:
    (root / "full_set" / name).unlink(missing_ok=True)
    if content is not None:
        (root / "full_set" / name).write_bytes(content)


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def archived(path: Path, root: Path) -> Path:
    return zip_of(path, {file.relative_to(root.parent).as_posix(): file.read_bytes() for file in root.rglob("*.wav")})


def columns(dataset, *names: str) -> list:
    return [dataset[name] for name in names or ("file", "speaker", "emotion", "intensity", "item", "duration")]


def error_of(*arguments, **options) -> CorpusError:
    with pytest.raises(CorpusError) as error:
        read_vivae(*arguments, **options)
    return error.value


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

    def test_the_manifest_is_what_vivae_is(self):
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

    def test_a_dataset_does_what_datasets_do(self, tiny_vivae):
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

    def test_what_systems_leave_behind_is_no_clip(self, broken_vivae, tmp_path):
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
    """Which clips of the full set are in the core set, too: by their names; its sound is not read."""

    @pytest.fixture
    def both_sets(self, broken_vivae) -> Path:
        (broken_vivae / "core_set" / "sub").mkdir(parents=True)
        for number, name in enumerate(NAMES[::2][:480]):
            (broken_vivae / "core_set" / ("sub" if number % 2 else "") / name).write_bytes(b"")
        return broken_vivae

    @pytest.mark.parametrize("zipped", [False, True])
    def test_it_tells_the_names_of_core_set(self, both_sets, tmp_path, zipped):
        path = archived(tmp_path / "VIVAE.zip", both_sets) if zipped else both_sets
        read = read_vivae(path)
        assert read.problems == ()
        chosen = [file for file, core in zip(*columns(read.dataset, "file", "core"), strict=True) if core]
        assert chosen == NAMES[::2][:480]
        assert set(read.dataset["core"]) == {True, False}

    def test_it_is_unknown_where_only_full_set_is_given(self, both_sets):
        assert set(load_vivae(both_sets / "full_set")["core"]) == {None}

    def test_a_core_set_with_other_names_is_left_aside_with_a_warning(self, both_sets, caplog):
        (both_sets / "core_set" / NAMES[0]).rename(both_sets / "core_set" / "S01_anger_low_99.wav")
        read = read_vivae(both_sets)
        assert "core_set has names that full_set has not (S01_anger_low_99.wav): column core is left" in caplog.text
        assert (read.problems, set(read.dataset["core"])) == ((), {None})

    def test_two_core_sets(self, both_sets):
        shutil.copytree(both_sets / "core_set", both_sets / "again" / "core_set")
        root = both_sets.name
        refused(
            f"expected one folder core_set in {both_sets}, found 2 ({root}/again/core_set, {root}/core_set); "
            "give the one that is meant with --data_dir.",
            path=both_sets,
        )


BAD = {
    "S01_anger_low_01.wav": (b"", "sound, found an empty file (0 bytes)"),
    "S02_anger_low_03.wav": (
        b"dear diary, " * 9,
        "WAV, FLAC, OGG, MP3 or another format of libsndfile, found no readable audio (format not recognised)",
    ),
    "S02_fear_low_01.wav": (CLIP[:1000], "the 4410 bytes of sound of its header, found only 956 (truncated)"),
    "S02_pain_low_01.wav": (wave(channels=2), "mono sound, found 2 channels"),
    "S02_pain_low_02.wav": (wave(rate=16000), "44100 Hz, found 16000 Hz"),
    "S02_pain_low_03.wav": (wave(seconds=0), "at least one sample, found 0 samples"),
    "S02_pain_low_04.wav": (
        wave(subtype="FLOAT", value=np.nan),
        "finite samples, found 2205 NaN or infinite samples",
    ),
}
BAD_LINES = tuple(f"bad audio: {name}: expected {text}" for name, (_, text) in BAD.items())


class TestProblems:
    def test_all_are_named_in_one_error(self, broken_vivae):
        full = broken_vivae / "full_set"
        for name in ("S01_fear_low_01.wav", "S11_pain_peak_03.wav"):
            assert name in NAMES
            spoil(broken_vivae, name, None)
        spoil(broken_vivae, "S01_anger_low_99.wav", CLIP)
        spoil(broken_vivae, "S01_Anger_low_01.wav", CLIP)
        (full / "anger").mkdir()
        (full / "anger" / "S04_anger_strong_7.wav").write_bytes(CLIP)
        spoil(broken_vivae, "S01_anger_low_01.wav", b"")
        error = error_of(broken_vivae)
        assert str(error) == (
            f"expected the 1085 clips of full_set in {broken_vivae}, found "
            "1 badly named (S01_Anger_low_01.wav); "
            "1 duplicate (anger/S04_anger_strong_7.wav, as S04_anger_strong_7.wav); "
            "2 missing (S01_fear_low_01.wav, S11_pain_peak_03.wav); "
            "1 extra (S01_anger_low_99.wav); "
            f"1 bad audio (S01_anger_low_01.wav: expected sound, found an empty file (0 bytes)); {CURE}"
        )
        read = read_vivae(broken_vivae, allow_partial=True)
        assert (
            read.problems
            == error.problems
            == (
                "badly named: S01_Anger_low_01.wav",
                "duplicate: anger/S04_anger_strong_7.wav, as S04_anger_strong_7.wav",
                "missing: S01_fear_low_01.wav",
                "missing: S11_pain_peak_03.wav",
                "extra: S01_anger_low_99.wav",
                BAD_LINES[0],
            )
        )
        left = [name for name in NAMES if name not in ("S01_fear_low_01.wav", "S11_pain_peak_03.wav", *BAD)]
        assert set(read.dataset["file"]) == set(left) | set(list(BAD)[1:])

    @pytest.mark.parametrize("zipped", [False, True])
    def test_bad_sound_is_told_from_good(self, broken_vivae, tmp_path, zipped):
        for name, (content, _) in BAD.items():
            assert name in NAMES
            spoil(broken_vivae, name, content)
        path = archived(tmp_path / "VIVAE.zip", broken_vivae) if zipped else broken_vivae
        assert error_of(path).problems == BAD_LINES
        skipped = read_vivae(path, on_bad_audio="skip")
        assert skipped.problems == BAD_LINES
        assert skipped.dataset["file"] == [name for name in NAMES if name not in BAD]

    def test_skipping_bad_sound_does_not_accept_missing_files(self, broken_vivae):
        spoil(broken_vivae, NAMES[3], None)
        assert error_of(broken_vivae, on_bad_audio="skip").problems == (f"missing: {NAMES[3]}",)

    def test_long_lists_are_cut_in_the_message_only(self, tiny_vivae):
        error = error_of(tiny_vivae)
        missing = sorted(set(NAMES) - {file.name for file in tiny_vivae.rglob("*.wav")})
        assert str(error) == (
            f"expected the 1085 clips of full_set in {tiny_vivae}, "
            f"found 1037 missing ({', '.join(missing[:10])} and 1027 more); {CURE}"
        )
        assert error.problems == tuple(f"missing: {name}" for name in missing)

    def test_an_error_crosses_processes(self):
        again = pickle.loads(pickle.dumps(CorpusError("no clips.", ["missing: a"])))
        assert (str(again), again.problems) == ("no clips.", ("missing: a",))

    def test_nothing_good_is_an_error_even_in_part(self, tmp_path):
        (tmp_path / "full_set").mkdir()
        (tmp_path / "full_set" / NAMES[0]).write_bytes(b"")
        assert len(error_of(tmp_path, allow_partial=True).problems) == 1085

    def test_the_log_tells_what_was_left_out(self, broken_vivae, caplog):
        spoil(broken_vivae, NAMES[0], None)
        with caplog.at_level(logging.WARNING):
            assert len(load_vivae(broken_vivae, allow_partial=True)) == 1084
        assert caplog.messages == [f"VIVAE, 1 problems: missing: {NAMES[0]}."]


def refused(message: str, **options) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_vivae(**options)


class TestRefusals:
    def test_neither_folder_nor_archive(self, tmp_path):
        expected = "expected full_set/ with .wav files at any depth of"
        cure = "correct --data_dir, or leave it out to download VIVAE."
        nowhere, text = tmp_path / "nowhere", tmp_path / "VIVAE.zip.txt"
        text.write_text("hello")
        refused(
            f"expected a folder that holds full_set/ or a VIVAE.zip at {nowhere}, found nothing; {cure}", path=nowhere
        )
        refused(
            f"{expected} {tmp_path}, or VIVAE.zip in it, found neither; {cure}",
            path=tmp_path,
        )
        refused(
            f"expected a folder or a whole zip archive at {text}, found a file that is neither "
            f"(File is not a zip file); {cure}",
            path=text,
        )

    def test_two_full_sets(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name / "full_set").mkdir(parents=True)
            (tmp_path / name / "full_set" / NAMES[0]).write_bytes(CLIP)
        root = f"{tmp_path.name}/"
        refused(
            f"expected one folder full_set in {tmp_path}, found 2 ({root}a/full_set, {root}b/full_set); "
            "give the one that is meant with --data_dir.",
            path=tmp_path,
        )

    def test_encrypted_members(self, tmp_path):
        name = f"full_set/{NAMES[0]}"
        path = zip_of(tmp_path / "VIVAE.zip", {name: CLIP})
        data = bytearray(path.read_bytes())
        for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            position = data.index(signature) + offset
            data[position : position + 2] = struct.pack("<H", 1)
        path.write_bytes(data)
        refused(
            f"expected an archive without a password, found 1 encrypted files in {path} ({name}); "
            "unpack it and give the folder with --data_dir.",
            path=path,
        )

    def test_a_member_of_absurd_size(self, tmp_path):
        name = f"full_set/{NAMES[0]}"
        path = zip_of(tmp_path / "VIVAE.zip", {name: bytes(archive.MAX_MEMBER_BYTES + 1)})
        refused(
            f"expected clips of at most 64 MiB and 2 GiB in all in {path}, found more in {name}; "
            "get VIVAE.zip again from its source.",
            path=path,
        )

    def test_an_absurd_sum_of_sizes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 2**12)
        path = zip_of(tmp_path / "VIVAE.zip", {f"full_set/{name}": CLIP for name in NAMES[:2]})
        with pytest.raises(ValueError, match=r"in all in .*VIVAE\.zip, found 0\.0 GiB; get VIVAE\.zip again"):
            load_vivae(path)

    def test_a_damaged_member_is_bad_audio(self, tmp_path):
        path = tmp_path / "VIVAE.zip"
        with zipfile.ZipFile(path, "w") as file:
            for name in NAMES:
                file.writestr(f"full_set/{name}", CLIP)
        data = bytearray(path.read_bytes())
        data[data.index(b"data") + 10] ^= 0xFF
        path.write_bytes(data)
        assert error_of(path).problems == (
            f"bad audio: {NAMES[0]}: expected a whole file, found a damaged member of the archive "
            f"(Bad CRC-32 for file 'full_set/{NAMES[0]}')",
        )

    def test_an_archive_writes_nothing(self, tmp_path, monkeypatch):
        (tmp_path / "in").mkdir()
        members = {f"../../full_set/{name}": CLIP for name in NAMES}
        path = zip_of(tmp_path / "in" / "VIVAE.zip", members)
        monkeypatch.chdir(tmp_path / "in")
        assert len(load_vivae(path)) == 1085
        assert sorted(file.name for file in tmp_path.rglob("*")) == ["VIVAE.zip", "in"]

    def test_misspelt_options_name_the_nearest(self, tmp_path):
        refused(
            "expected --subset to be one of full, core, found 'ful' (did you mean full?).", path=tmp_path, subset="ful"
        )
        refused(
            "expected --on_bad_audio to be one of error, skip, found 'ignore'.", path=tmp_path, on_bad_audio="ignore"
        )


class TestLoadCorpus:
    def test_the_source_is_chosen_by_name(self, tiny_vivae, tmp_path):
        assert load_corpus("vivae", tiny_vivae, allow_partial=True).name == "vivae"
        for label in ("fear", "pain"):
            (tmp_path / label).mkdir()
            (tmp_path / label / "S01_x.wav").write_bytes(CLIP)
            (tmp_path / label / "S02_x.wav").write_bytes(b"")
        read = load_corpus("folder", tmp_path, speaker_pattern="^(S..)_", on_bad_audio="skip")
        assert (read.name, read.dataset["speaker"], len(read.problems)) == ("folder", ["S01", "S01"], 2)

    def test_synthetic_clips_are_read_as_vivae_is(self, whole_vivae, monkeypatch):
        from hf_vivae.corpus import synthetic

        asked = []
        monkeypatch.setattr(
            synthetic, "synthesize_corpus", lambda seed, cache_dir: asked.append((seed, cache_dir)) or whole_vivae
        )
        read = load_corpus("synthetic", synthetic_seed=7)
        assert (read.name, len(read.dataset), asked) == ("synthetic", 1085, [(7, None)])
        assert corpus.load_synthetic(3)["file"] == NAMES

    @pytest.mark.parametrize("name", ["one", "all"])
    def test_damaged_synthetic_clips_are_to_be_made_again(self, broken_vivae, monkeypatch, name):
        from hf_vivae.corpus import synthetic

        monkeypatch.setattr(synthetic, "synthesize_corpus", lambda seed, cache_dir: broken_vivae)
        if name == "one":
            spoil(broken_vivae, NAMES[0], None)
            spoil(broken_vivae, NAMES[1], b"")
            lines = (
                f"missing: {NAMES[0]}",
                f"bad audio: {NAMES[1]}: expected sound, found an empty file (0 bytes)",
            )
        else:
            shutil.rmtree(broken_vivae / "full_set")
            lines = ("not one full_set with clips",)
        with pytest.raises(CorpusError) as error:
            load_corpus("synthetic")
        assert str(error.value) == (
            f"expected the synthetic clips in {broken_vivae} as they were made, found them damaged "
            f"({', '.join(lines)}); delete that folder to have them made again."
        )
        assert error.value.problems == lines

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"data": "vivea"},
                "expected --data to be one of vivae, synthetic, folder, noise, found 'vivea' (did you mean vivae?).",
            ),
            (
                {"data": "folder"},
                "expected the folder of the clips with --data folder, found none; give it with --data_dir.",
            ),
            (
                {"data": "synthetic", "data_dir": "x", "subset": "core"},
                "expected only options that --data synthetic has, found --data_dir, --subset; leave them out.",
            ),
            (
                {"data": "vivae", "data_dir": "x", "data_url": "y"},
                "expected only options that --data vivae with --data_dir has, found --data_url; leave them out.",
            ),
            (
                {"data": "vivae", "speaker_pattern": "(.)"},
                "expected only options that --data vivae has, found --speaker_pattern; leave them out.",
            ),
            (
                {"data": "vivae", "synthetic_seed": 1},
                "expected only options that --data vivae has, found --synthetic_seed; leave them out.",
            ),
            (
                {"data": "folder", "data_dir": "x", "synthetic_seed": 1, "allow_partial": True},
                "expected only options that --data folder has, "
                "found --allow_partial, --synthetic_seed; leave them out.",
            ),
            (
                {"data": "synthetic", "synthetic_seed": 1, "allow_partial": True},
                "expected only options that --data synthetic has, found --allow_partial; leave them out.",
            ),
        ],
    )
    def test_impossible_choices_are_sentences(self, options, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            load_corpus(**options)
