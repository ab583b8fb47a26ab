"""Folders of labelled clips: class folders and metadata files, and the errors for unusable files and rows."""

import errno
import io
import json
import logging
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from datasets import Audio

from hf_vivae.audio import load
from hf_vivae.corpus import CorpusError, load_folder
from hf_vivae.corpus.folder import read_folder
from hf_vivae.corpus.schema import corpus_key

REAL = Path(__file__).parents[3] / "shared" / "real" / "nonverbal_vocalization" / "dataset"


def sound(rate=16000, channels=1, format="WAV", value=0.1, subtype=None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full((rate // 10, channels), value), rate, format=format, subtype=subtype)
    return file.getvalue()


CLIP = sound()


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


TWO = {"cry/a_1.wav": CLIP, "laugh/b_1.wav": CLIP}


def refused(root: Path, message: str, **options) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_folder(root, **options)


class TestClassFolders:
    def test_each_folder_is_a_class(self, tmp_path):
        fill(
            tmp_path,
            {
                "yawn/b_1.WAV": CLIP,
                "cry/session/2/a_2.flac": sound(44100, 2, "FLAC"),
                "cry/a_1.ogg": sound(8000, format="OGG"),
                "cry/a_3.mp3": sound(32000, format="MP3"),
                "cry/notes.txt": b"hello",
                "cry/labels.json": b"{}",
                "cry/a_1.TextGrid": b"hello",
                "cry/NOTES.TXT": b"hello",
                "cry/LICENSE": b"hello",
                "cry/._a_1.wav": b"",
                "__MACOSX/cry/a_1.wav": b"",
                ".cache/a_1.wav": b"",
                "readme.csv": b"hello",
            },
        )
        read = read_folder(tmp_path)
        assert (read.name, read.problems) == ("folder", ())
        dataset = read.dataset
        assert dataset.features["audio"] == Audio(sampling_rate=None, decode=False)
        assert dataset.features["emotion"].names == ["cry", "yawn"]
        assert dataset["file"] == ["cry/a_1.ogg", "cry/a_3.mp3", "cry/session/2/a_2.flac", "yawn/b_1.WAV"]
        assert dataset["emotion"] == [0, 0, 0, 1]
        assert dataset["item"] == ["a_1", "a_3", "a_2", "b_1"]
        assert dataset["duration"] == [0.1] * 4
        assert dataset["speaker"] == dataset["intensity"] == [None] * 4
        assert [load(audio)[1] for audio in dataset["audio"]] == [8000, 32000, 44100, 16000]
        assert dataset[2]["audio"] == {"bytes": None, "path": str(tmp_path / "cry/session/2/a_2.flac")}

    @pytest.mark.parametrize("name", ["a.wave", "a.oga", "a.snd", "a.xyz", "a"])
    def test_the_format_is_read_from_the_content_not_the_suffix(self, tmp_path, name):
        fill(tmp_path, {**TWO, f"cry/{name}": CLIP})
        assert load_folder(tmp_path)["file"] == sorted([*TWO, f"cry/{name}"])

    def test_formats_that_cannot_be_read_are_named(self, tmp_path):
        names = ("cry/a.AAC", "cry/b", "laugh/c.m4a")
        fill(tmp_path, {**TWO, **dict.fromkeys(names, b"....ftypM4A " * 9)})
        lines = [
            f"{name}: expected WAV, FLAC, OGG, MP3 or another format of libsndfile, "
            "found no readable audio (format not recognised)"
            for name in names
        ]
        refused(
            tmp_path,
            f"expected only usable clips in {tmp_path}, found 3 bad audio ({', '.join(lines)}); "
            "correct them or remove them, or leave out those that cannot be read with --on_bad_audio skip.",
        )
        read = read_folder(tmp_path, on_bad_audio="skip")
        assert read.problems == tuple(f"bad audio: {line}" for line in lines)
        assert read.dataset["file"] == list(TWO)

    def test_links_within_the_folder_are_followed_and_circles_are_not(self, tmp_path):
        root = fill(tmp_path, {"cry/a_1.wav": CLIP, ".annex/laugh/b_1.wav": CLIP, ".annex/c": CLIP})
        (root / "laugh").symlink_to(root / ".annex" / "laugh")
        (root / "cry" / "c_1.wav").symlink_to(root / ".annex" / "c")
        (root / "cry" / "again").symlink_to(root / "cry")
        assert load_folder(root)["file"] == ["cry/a_1.wav", "cry/c_1.wav", "laugh/b_1.wav"]

    def test_nothing_outside_the_folder_is_read(self, tmp_path):
        """An unpacked archive may contain links to any file of the machine."""
        root = fill(tmp_path / "root", TWO)
        fill(tmp_path / "elsewhere", {"far/a.wav": CLIP, "far/b.wav": CLIP, "c.wav": CLIP})
        (root / "sob").symlink_to(tmp_path / "elsewhere" / "far")
        (root / "cry" / "c.wav").symlink_to(tmp_path / "elsewhere" / "c.wav")
        refused(
            root,
            f"expected only usable clips in {root}, found 2 outside the folder "
            f"(cry/c.wav, a link to {tmp_path}/elsewhere/c.wav, sob, a link to {tmp_path}/elsewhere/far); "
            "copy files from elsewhere into the folder, correct them or remove them.",
            on_bad_audio="skip",
        )

    def test_a_snapshot_in_the_cache_of_the_hub_is_read(self, tmp_path):
        blobs = fill(tmp_path / "datasets--a--b" / "blobs", {"1234": CLIP, "5678": CLIP})
        snapshot = tmp_path / "datasets--a--b" / "snapshots" / "main"
        for label, blob in (("cry", "1234"), ("laugh", "5678")):
            (snapshot / label).mkdir(parents=True)
            (snapshot / label / "a.wav").symlink_to(blobs / blob)
        assert load_folder(snapshot)["file"] == ["cry/a.wav", "laugh/a.wav"]

    def test_names_are_the_same_in_both_unicode_forms(self, tmp_path):
        """MacOS stores another Unicode form of the names than an unpacked archive contains."""
        names = ["p\u00e9/z_1.wav", "p\u00e9/\u00e4_1.wav", "pz/e\u0301_2.wav"]
        composed, apart = (
            load_folder(fill(tmp_path / form, {unicodedata.normalize(form, name): CLIP for name in names}))
            for form in ("NFC", "NFD")
        )
        assert apart.remove_columns("audio").to_list() == composed.remove_columns("audio").to_list()
        assert apart.features["emotion"].names == ["pz", "p\u00e9"]
        assert corpus_key(apart) == corpus_key(composed)
        assert all(Path(audio["path"]).is_file() for audio in apart["audio"])

    def test_labels_that_differ_by_their_unicode_form_are_one_class(self, tmp_path):
        fill(tmp_path, {"p\u00e9/a.wav": CLIP, "pe\u0301/b.wav": CLIP, "cry/c.wav": CLIP})
        dataset = load_folder(tmp_path)
        assert dataset.features["emotion"].names == ["cry", "p\u00e9"]
        assert dataset["emotion"] == [0, 1, 1]
        fill(tmp_path, {"pe\u0301/a.wav": CLIP})
        with pytest.raises(CorpusError, match=r"found 1 named twice \(p\u00e9/a\.wav, in two Unicode forms\)"):
            load_folder(tmp_path)

    def test_a_name_that_is_not_utf_8_is_named(self, tmp_path):
        fill(tmp_path, TWO)
        (tmp_path / "cry" / os.fsdecode(b"p\xe9.wav")).write_bytes(CLIP)
        with pytest.raises(CorpusError, match=r"1 with a name that is not UTF-8 \(cry/p\\xe9\.wav\)"):
            load_folder(tmp_path)

    def test_sound_outside_the_class_folders_is_named(self, tmp_path):
        fill(tmp_path, {**TWO, "c_1.wav": CLIP})
        refused(
            tmp_path,
            f"expected only usable clips in {tmp_path}, found 1 outside the class folders (c_1.wav); "
            "correct them or remove them.",
        )

    def test_fewer_than_two_classes_are_refused(self, tmp_path):
        wanted = (
            f"expected clips of at least two classes in {tmp_path} (one folder per class, or a metadata file "
            "with the columns file and label), found "
        )
        refused(tmp_path, f"{wanted}no clips; correct --data_dir.")
        fill(tmp_path, {"cry/a.wav": CLIP, "laugh/a.txt": b""})
        refused(tmp_path, f"{wanted}only cry; correct --data_dir.")
        nowhere = tmp_path / "nowhere"
        refused(nowhere, f"expected a folder of labelled clips at {nowhere}, found none; correct --data_dir.")
        long = tmp_path / ("x" * 300)
        refused(long, f"expected a folder of labelled clips at {long}, found File name too long; correct --data_dir.")

    def test_bad_sound_is_named_or_skipped(self, tmp_path, caplog):
        bad = {
            "cry/empty.wav": (b"", "sound, found an empty file (0 bytes)"),
            "cry/nan.wav": (
                sound(value=np.nan, subtype="FLOAT"),
                "finite samples, found 1600 NaN or infinite samples",
            ),
            "laugh/cut.wav": (
                CLIP[:1000],
                "the 3200 bytes of sound of its header, found only 956 (truncated)",
            ),
        }
        fill(tmp_path, {**TWO, **{name: content for name, (content, _) in bad.items()}})
        lines = [f"{name}: expected {text}" for name, (_, text) in bad.items()]
        with pytest.raises(CorpusError) as error:
            read_folder(tmp_path)
        assert str(error.value) == (
            f"expected only usable clips in {tmp_path}, found 3 bad audio ({', '.join(lines)}); "
            "correct them or remove them, or leave out those that cannot be read with --on_bad_audio skip."
        )
        assert error.value.problems == tuple(f"bad audio: {line}" for line in lines)
        read = read_folder(tmp_path, on_bad_audio="skip")
        assert read.problems == error.value.problems
        assert read.dataset["file"] == list(TWO)
        with caplog.at_level(logging.WARNING):
            load_folder(tmp_path, on_bad_audio="skip")
        assert caplog.messages == [
            f"folder clips: 3 files are missing, left out or not as expected ({', '.join(read.problems)})."
        ]


class TestSpeakers:
    @pytest.mark.parametrize("pattern", ["^([a-z])_", "^(?P<speaker>[a-z])_([0-9])"])
    def test_the_speaker_is_in_the_name(self, tmp_path, pattern):
        assert load_folder(fill(tmp_path, TWO), speaker_pattern=pattern)["speaker"] == ["a", "b"]

    def test_the_folder_is_not_searched(self, tmp_path):
        fill(tmp_path, {"cry/S01/a_1.wav": CLIP, "laugh/S02_1.wav": CLIP})
        refused(
            tmp_path,
            f"expected only usable clips in {tmp_path}, found 1 without a speaker by '(S[0-9]+)' (cry/S01/a_1.wav); "
            "correct them or remove them.",
            speaker_pattern="(S[0-9]+)",
            on_bad_audio="skip",
        )

    def test_patterns_need_one_group(self, tmp_path):
        fill(tmp_path, TWO)
        remedy = "write for example '^([^_]+)_' for names that begin with the speaker and an underscore."
        for pattern, groups in (("^[a-z]", 0), ("(a)(b)", 2)):
            refused(
                tmp_path,
                "expected one group, or a group named speaker, in --speaker_pattern, "
                f"found {groups} groups in {pattern!r}; {remedy}",
                speaker_pattern=pattern,
            )
        refused(
            tmp_path,
            "expected a regular expression in --speaker_pattern, found '(' "
            f"(missing ), unterminated subpattern at position 0); {remedy}",
            speaker_pattern="(",
        )

    def test_a_pattern_that_takes_too_long_is_stopped(self, tmp_path):
        name = "cry/" + "a" * 60 + ".b.wav"
        fill(tmp_path, {**TWO, name: CLIP})
        refused(
            tmp_path,
            r"expected a quick regular expression in --speaker_pattern, found that '^(?:(a|a)*)\\.wav' takes "
            f"more than a second at {name}; write it without a repetition inside a repetition.",
            speaker_pattern=r"^(?:(a|a)*)\.wav",
        )


ROWS = [
    {"file": "x/a.wav", "label": "yawn", "speaker": "7", "intensity": "peak", "item": "03"},
    {"file": "b.wav", "label": "cry", "speaker": None, "intensity": None, "item": None},
]


def write(path: Path, rows: list[dict]) -> None:
    if path.suffix == ".csv":
        lines = [rows[0], *(row.values() for row in rows)]
        path.write_text("\n".join(",".join(value or "" for value in line) for line in lines), encoding="utf-8-sig")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


class TestMetadata:
    @pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
    @pytest.mark.parametrize("columns", [("file", "label"), ("file_name", "emotion")])
    def test_rows_are_clips(self, tmp_path, name, columns):
        fill(tmp_path, {"x/a.wav": CLIP, "b.wav": CLIP, "x/not_named.wav": b""})
        renamed = dict(zip(("file", "label"), columns, strict=True))
        write(tmp_path / name, [{renamed.get(key, key): value for key, value in row.items()} for row in ROWS])
        read = read_folder(tmp_path)
        assert read.problems == ("in no row of the metadata file: x/not_named.wav",)
        assert read.dataset.remove_columns(["audio", "duration"]).to_list() == [
            {"file": "b.wav", "speaker": None, "emotion": 0, "intensity": None, "item": "b", "core": None},
            {"file": "x/a.wav", "speaker": "7", "emotion": 1, "intensity": 3, "item": "03", "core": None},
        ]

    def test_labels_alone_are_enough(self, tmp_path):
        fill(tmp_path, {"s1_a.wav": CLIP, "s2_b.wav": CLIP})
        write(tmp_path / "metadata.jsonl", [{"file": "s1_a.wav", "label": 1}, {"file": "s2_b.wav", "label": 0}])
        dataset = load_folder(tmp_path, speaker_pattern="^(s.)")
        assert dataset.features["emotion"].names == ["0", "1"]
        assert (dataset["emotion"], dataset["speaker"]) == ([1, 0], ["s1", "s2"])

    def test_bad_rows_are_named_together(self, tmp_path):
        fill(tmp_path, {"a.wav": CLIP, "b.wav": CLIP})
        rows = [
            {"file": "a.wav", "label": "cry", "intensity": "huge"},
            {"file": "b.wav", "label": " ", "intensity": "low"},
            {"file": "c.wav", "label": "cry", "intensity": "low"},
            {"file": "a.wav", "label": "cry", "intensity": "low"},
            {"file": None, "label": "cry", "intensity": "low"},
        ]
        write(tmp_path / "metadata.jsonl", rows)
        with pytest.raises(CorpusError) as error:
            read_folder(tmp_path, on_bad_audio="skip")
        assert error.value.problems == (
            "without a file: row 5",
            "without a label: b.wav in row 2",
            "named twice: a.wav",
            "absent: c.wav",
            "with an intensity other than low, moderate, strong, peak: a.wav: huge",
        )

    def test_rows_name_files_of_the_folder_and_each_once(self, tmp_path):
        root = fill(tmp_path / "root", {"cry/a.wav": CLIP, "laugh/b.wav": CLIP})
        fill(tmp_path, {"c.wav": CLIP})
        (root / "laugh" / "link.wav").symlink_to(tmp_path / "c.wav")
        (root / "laugh" / "same.wav").symlink_to(root / "laugh" / "b.wav")
        files = ["cry/a.wav", "cry/../cry/a.wav", "laugh/b.wav", "laugh/same.wav"]
        outside = ["../c.wav", str(tmp_path / "c.wav"), "../gone.wav", "laugh/link.wav"]
        write(root / "metadata.jsonl", [{"file": file, "label": "cry"} for file in (*files, *outside)])
        with pytest.raises(CorpusError) as error:
            read_folder(root, on_bad_audio="skip")
        assert error.value.problems == (
            *(f"outside the folder: {file}" for file in outside),
            "named twice: cry/a.wav",
            "named twice: laugh/b.wav, as laugh/same.wav",
            "in no row of the metadata file: laugh/link.wav",
        )

    def test_rows_with_impossible_names_are_listed_like_others(self, tmp_path):
        fill(tmp_path, {"a.wav": CLIP})
        names = ["a\0.wav", "x/../\0", "a\udce9.wav", "x" * 300]
        write(tmp_path / "metadata.jsonl", [{"file": name, "label": "\ud800"} for name in (*names, "a.wav")])
        with pytest.raises(CorpusError) as error:
            read_folder(tmp_path)
        absent = ["a\0.wav", "\0", r"a\udce9.wav", "x" * 300]
        assert error.value.problems == tuple(f"absent: {name}" for name in absent)

    @pytest.mark.parametrize(("written", "kept"), [("NFC", "NFD"), ("NFD", "NFC")])
    def test_rows_find_files_in_the_other_unicode_form(self, tmp_path, written, kept):
        names = ["x/\u00e9.wav", "b.wav"]
        fill(tmp_path, {unicodedata.normalize(kept, name): CLIP for name in names})
        texts = [unicodedata.normalize(written, text) for text in (*names, "p\u00e9")]
        write(tmp_path / "metadata.jsonl", [{"file": texts[0], "label": texts[2]}, {"file": texts[1], "label": "cry"}])
        read = read_folder(tmp_path)
        assert (read.problems, read.dataset["file"]) == ((), ["b.wav", "x/\u00e9.wav"])
        assert read.dataset.features["emotion"].names == ["cry", "p\u00e9"]
        assert all(Path(audio["path"]).is_file() for audio in read.dataset["audio"])

    @pytest.mark.parametrize(
        ("name", "label"),
        [
            ("metadata.csv", ""),
            ("metadata.csv", "nan"),
            ("metadata.csv", "None"),
            ("metadata.jsonl", float("nan")),
            ("metadata.jsonl", None),
            ("metadata.parquet", float("nan")),
            ("metadata.parquet", None),
        ],
    )
    def test_an_absent_label_is_no_class(self, tmp_path, name, label):
        fill(tmp_path, {"a.wav": CLIP, "b.wav": CLIP, "c.wav": CLIP})
        labels = ("1", "2", label) if isinstance(label, str) else (1.0, 2.0, label)
        write(
            tmp_path / name,
            [{"file": f"{file}.wav", "label": label} for file, label in zip("abc", labels, strict=True)],
        )
        refused(
            tmp_path,
            f"expected only usable clips in {tmp_path}, found 1 without a label (c.wav in row 3); "
            "give a label to each clip that has none, correct them or remove them.",
        )

    def test_an_absent_speaker_is_unknown(self, tmp_path):
        fill(tmp_path, {"a.wav": CLIP, "b.wav": CLIP})
        rows = [
            {"file": "a.wav", "label": "cry", "speaker": float("nan")},
            {"file": "b.wav", "label": "none", "speaker": 7},
        ]
        write(tmp_path / "metadata.jsonl", rows)
        dataset = load_folder(tmp_path)
        assert dataset["speaker"] == [None, "7"]
        assert dataset.features["emotion"].names == ["cry", "none"]

    def test_bad_sound_in_a_row(self, tmp_path):
        fill(tmp_path, {"x/a.wav": CLIP, "b.wav": CLIP, "c.wav": b""})
        write(tmp_path / "metadata.jsonl", [*ROWS, {"file": "c.wav", "label": "cry"}])
        read = read_folder(tmp_path, on_bad_audio="skip")
        assert read.problems == ("bad audio: c.wav: expected sound, found an empty file (0 bytes)",)
        assert len(read.dataset) == 2

    def test_one_metadata_file_with_one_column_each(self, tmp_path):
        fill(tmp_path, {"x/a.wav": CLIP, "b.wav": CLIP})
        path = tmp_path / "metadata.csv"
        path.write_text("file,class\nb.wav,cry\n")
        message = "expected one column {} in {}, found {}; name the column {}."
        refused(tmp_path, message.format("label or emotion", path, "file, class", "label"))
        path.write_text("file,label,emotion\nb.wav,cry,cry\n")
        refused(tmp_path, message.format("label or emotion", path, "label and emotion", "label"))
        path.write_text("file,label\n")
        refused(tmp_path, message.format("file or file_name", path, "no rows", "file"))
        write(tmp_path / "metadata.jsonl", ROWS)
        refused(
            tmp_path,
            f"expected one metadata file in {tmp_path}, found metadata.csv and metadata.jsonl; keep one of them.",
        )

    def test_speakers_come_from_one_place(self, tmp_path):
        fill(tmp_path, {"x/a.wav": CLIP, "b.wav": CLIP})
        write(tmp_path / "metadata.csv", ROWS)
        refused(
            tmp_path,
            "expected speakers from the metadata file or from --speaker_pattern, found both; leave one of them out.",
            speaker_pattern="(.)",
        )

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            (
                "metadata.jsonl",
                b'{"file": "a.wav"}\n[1]\n',
                "expected one JSON object per line in {}, found '[1]' in line 2; fix it.",
            ),
            (
                "metadata.jsonl",
                b'{"file": ',
                "expected one JSON object per line in {}, found '{{\"file\": ' in line 1; fix it.",
            ),
            (
                "metadata.csv",
                b"file,label\na.wav,cry,and,more\n",
                "expected as many fields as columns in {}, found more in row 1; fix it.",
            ),
            (
                "metadata.csv",
                b"file,label\n\xff.wav,cry\n",
                "expected text in UTF-8 in {}, found invalid start byte; save it in UTF-8.",
            ),
            (
                "metadata.jsonl",
                b"[" * 100_000,
                "expected one JSON object per line in {}, found '" + "[" * 40 + "' in line 1; fix it.",
            ),
            (
                "metadata.csv",
                b"file,label\n" + b"a" * 200_000,
                "expected a CSV table at {}, found another file (field larger than field limit (131072)); fix it.",
            ),
            ("metadata.parquet", b"no table", "expected a parquet table at {}, found another file; write it again."),
        ],
    )
    def test_damaged_tables(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path, message.format(tmp_path / name))

    def test_a_table_that_cannot_be_read(self, tmp_path, monkeypatch):
        """A file without permission (simulated, since root may read it), or on a failing disk."""
        path = tmp_path / "metadata.csv"
        write(path, ROWS)

        def deny(*arguments, **options) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open", deny)
        refused(tmp_path, f"expected a table that can be read at {path}, found Permission denied; write it again.")


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the recordings of {REAL.parts[-2]} are not here")
def test_real_recordings_are_read():
    read = read_folder(REAL, speaker_pattern="^([A-Z0-9]{4})_")
    assert (len(read.dataset), len(read.dataset.features["emotion"].names), read.problems) == (727, 16, ())
    assert len(set(read.dataset["speaker"])) == 410
    assert (min(read.dataset["duration"]), max(read.dataset["duration"])) == pytest.approx((1.86, 5.96), abs=0.005)
