"""Problems with a copy of VIVAE: one error names all of them, and no damaged file is accepted."""

import logging
import os
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest
from vivae_copies import CLIP, NAMES, archived, error_of, spoil, wave, zip_of

from hf_vivae.corpus import CorpusError, archive, load_vivae
from hf_vivae.corpus.vivae import read_vivae

pytestmark = pytest.mark.usefixtures("short_vivae")

CURE = (
    "get VIVAE.zip again from https://doi.org/10.5281/zenodo.4066235, "
    "or use the clips that are good with --allow_partial."
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
    def test_bad_sound_is_distinguished_from_good(self, broken_vivae, tmp_path, zipped):
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

    def test_an_error_can_be_pickled(self):
        again = pickle.loads(pickle.dumps(CorpusError("no clips.", ["missing: a"])))
        assert (str(again), again.problems) == ("no clips.", ("missing: a",))

    def test_no_usable_clip_is_an_error_also_with_allow_partial(self, tmp_path):
        (tmp_path / "full_set").mkdir()
        (tmp_path / "full_set" / NAMES[0]).write_bytes(b"")
        assert len(error_of(tmp_path, allow_partial=True).problems) == 1085

    def test_the_log_names_the_missing_files(self, broken_vivae, caplog):
        spoil(broken_vivae, NAMES[0], None)
        with caplog.at_level(logging.WARNING):
            assert len(load_vivae(broken_vivae, allow_partial=True)) == 1084
        assert caplog.messages == [
            f"vivae clips: 1 files are missing, left out or not as expected (missing: {NAMES[0]})."
        ]


def refused(message: str, **options) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_vivae(**options)


class TestRefusals:
    def test_neither_folder_nor_archive(self, tmp_path):
        expected = "expected full_set/ with .wav files at any depth of"
        remedy = "correct --data_dir, or leave it out to download VIVAE."
        nowhere, text = tmp_path / "nowhere", tmp_path / "VIVAE.zip.txt"
        text.write_text("hello")
        refused(
            f"expected a folder that holds full_set/ or a VIVAE.zip at {nowhere}, found nothing; {remedy}",
            path=nowhere,
        )
        refused(
            f"{expected} {tmp_path}, or VIVAE.zip in it, found neither; {remedy}",
            path=tmp_path,
        )
        refused(
            f"expected a folder or a whole archive (zip, tar or tar.gz) at {text}, found a file that is neither "
            "(File is not a zip file); correct --data_dir, or leave it out to download the corpus.",
            path=text,
        )

    def test_a_path_that_cannot_be_read_is_refused(self, tmp_path):
        """A folder without permission (simulated, since root may read it), or a pipe without a writer."""
        long, pipe = tmp_path / ("x" * 300), tmp_path / "VIVAE.zip"
        os.mkfifo(pipe)
        for path, reason in ((long, "File name too long"), (pipe, "nothing")):
            refused(
                f"expected a folder that holds full_set/ or a VIVAE.zip at {path}, found {reason}; "
                "correct --data_dir, or leave it out to download VIVAE.",
                path=path,
            )

    def test_two_full_sets_are_refused(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name / "full_set").mkdir(parents=True)
            (tmp_path / name / "full_set" / NAMES[0]).write_bytes(CLIP)
        root = f"{tmp_path.name}/"
        refused(
            f"expected one folder full_set in {tmp_path}, found 2 ({root}a/full_set, {root}b/full_set); "
            "give one of them with --data_dir.",
            path=tmp_path,
        )

    def test_encrypted_members_are_refused(self, tmp_path):
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

    def test_a_member_that_is_too_large_is_refused(self, tmp_path):
        name = f"full_set/{NAMES[0]}"
        path = zip_of(tmp_path / "VIVAE.zip", {name: bytes(archive.MAX_MEMBER_BYTES + 1)})
        refused(
            f"expected clips of at most 64 MiB and 2 GiB in all in {path}, found more in {name}; "
            "get the archive again from its source.",
            path=path,
        )

    def test_an_archive_that_is_too_large_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 2**12)
        path = zip_of(tmp_path / "VIVAE.zip", {f"full_set/{name}": CLIP for name in NAMES[:2]})
        with pytest.raises(ValueError, match=r"in all in .*VIVAE\.zip, found 0\.0 GiB; get the archive again"):
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

    def test_errors_of_misspelt_options_have_the_nearest(self, tmp_path):
        refused(
            "expected --subset to be one of full, core, found 'ful' (did you mean full?).", path=tmp_path, subset="ful"
        )
        refused(
            "expected --on_bad_audio to be one of error, skip, found 'ignore'.", path=tmp_path, on_bad_audio="ignore"
        )
