"""EmoGator from folders, archives and its download: columns, labels, and one error that names all problems."""

import io
import json
import logging
import os
import re
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from archive_server import Server
from emogator_copies import CLIP, FEW, mp3, names_of, tagged, tar_of, write_folder, zip_of
from runner import ROOT, TRAIN, flags, script

import hf_vivae
from hf_vivae import audio
from hf_vivae.corpus import CorpusError, emogator, load_corpus, read_emogator
from hf_vivae.corpus import download as downloads
from hf_vivae.corpus.label_map import read_label_map
from hf_vivae.corpus.schema import corpus_key
from hf_vivae.network import NetworkError
from hf_vivae.validation import UserError

REAL = Path(__file__).parents[3] / "shared" / "real" / "emogator" / "clips"
NAMES = names_of()
REMEDY = "correct --data_dir, or leave it out to download EmoGator."
CURE = f"get the archive again from {emogator.URL}, or use the clips that are good with --allow_partial."
MEMBERS = {f"EmoGator-{emogator.COMMIT}/data/mp3/{name}": tagged(name) for name in NAMES}


@pytest.fixture(autouse=True)
def few_speakers(monkeypatch) -> None:
    monkeypatch.setattr(emogator, "SPEAKERS", FEW)


@pytest.fixture
def whole(tmp_path) -> Path:
    return write_folder(tmp_path / "EmoGator", NAMES)


def spoil(root: Path, name: str, content: bytes | None) -> None:
    (root / "data" / "mp3" / name).unlink(missing_ok=True)
    if content is not None:
        (root / "data" / "mp3" / name).write_bytes(content)


def refused(message: str, *arguments, **options) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        read_emogator(*arguments, **options)


class TestLabels:
    def test_every_clip_has_its_columns(self, whole):
        read = read_emogator(whole)
        assert (read.name, read.problems, read.label_map) == ("emogator", (), emogator.VIVAE_LABELS)
        assert read.dataset["file"][:] == NAMES
        assert read.dataset.features["emotion"].names == list(hf_vivae.EMOTIONS)
        assert read.dataset.features["audio"].sampling_rate == 48000
        row = read.dataset[NAMES.index("000002-30-3.mp3")]
        path = str(whole / "data" / "mp3" / "000002-30-3.mp3")
        assert row == {
            "audio": {"bytes": None, "path": path}, "file": "000002-30-3.mp3", "speaker": "000002", "emotion": 0,
            "intensity": None, "item": "3", "duration": pytest.approx(0.1, abs=0.05), "core": None,
        }  # fmt: skip

    def test_the_labels_are_those_of_the_map(self, whole):
        read = read_emogator(whole)
        label = read.dataset.features["emotion"].int2str
        numbers = {row["file"][7:9]: label(row["emotion"]) for row in read.dataset}
        assert numbers == {
            "03": "anger", "12": "pleasure", "15": "fear", "19": "pain", "28": "surprise", "30": "achievement",
        }  # fmt: skip

    def test_the_map_for_other_corpora_of_its_categories_is_the_same(self):
        assert read_label_map(ROOT / "recipes" / "label_maps" / "emogator-to-vivae.yaml") == emogator.VIVAE_LABELS
        assert len(emogator.CATEGORIES) == 30
        assert list(emogator.CATEGORIES) == sorted(emogator.CATEGORIES)

    def test_all_categories_have_their_own_names(self, tmp_path):
        root = write_folder(tmp_path / "all", names_of(numbers=range(1, 31)))
        read = read_emogator(root, "all")
        assert read.dataset.features["emotion"].names == list(emogator.CATEGORIES)
        assert (len(read.dataset), read.label_map) == (FEW * 90, None)
        assert load_corpus("emogator", root, categories=["all"]).dataset["emotion"] == read.dataset["emotion"]
        assert len(read_emogator(root).dataset) == len(NAMES), "other categories are no problem"

    def test_categories_by_name_are_a_corpus_of_their_own(self, tmp_path):
        root = write_folder(tmp_path / "two", names_of(numbers=(23, 18)))
        read = read_emogator(root, ["Romantic Love", "Neutral"])
        assert read.dataset.features["emotion"].names == ["Neutral", "Romantic Love"]
        assert (len(read.dataset), read.problems, read.label_map) == (FEW * 6, (), None)

    @pytest.mark.parametrize(
        ("categories", "message"),
        [
            (
                "Romantic love",
                r"expected --categories to be one of vivae, all, Ad.* \(did you mean Romantic Love\?\)",
            ),
            (["vivae", "Neutral"], r"expected --categories to be one of Adoration, .*found 'vivae'"),
            (
                ["Pain", "Pain"],
                r"expected --categories vivae, all, or at least two names, found Pain; give another\.$",
            ),
            ([], r"expected --categories vivae, all, or at least two names, found none; give another\.$"),
        ],
    )
    def test_other_categories_are_refused_before_anything_is_read(self, categories, message):
        with pytest.raises(UserError, match=f"^{message}"):
            read_emogator("nowhere", categories)

    def test_rates_that_differ_are_no_problem(self, whole):
        spoil(whole, NAMES[0], mp3(np.zeros(4410), 44100))
        assert read_emogator(whole).dataset.features["audio"].sampling_rate is None


def test_a_run_records_the_corpus_and_its_categories(whole, tmp_path):
    argv = flags(whole, tmp_path / "run", "mlp", "--num_train_epochs", "1")
    argv[argv.index("--data") + 1] = "emogator"
    script(TRAIN).main(argv)
    record, results = (
        json.loads((tmp_path / "run" / "000001" / f"{name}.json").read_text()) for name in ("run", "results")
    )
    assert (record["corpus"]["name"], record["corpus"]["clips"], record["corpus"]["problems"]) == ("emogator", 72, [])
    assert record["run"]["categories"] == ["vivae"]
    assert (results["data"], results["labels"]) == ("emogator", list(hf_vivae.EMOTIONS))
    assert results["test"]["n"] == 18


class TestSound:
    def test_stereo_is_averaged(self, tmp_path):
        wave = 0.5 * np.sin(np.arange(48000) / 20)
        (tmp_path / "a.mp3").write_bytes(mp3(np.stack([wave, 0 * wave], axis=1)))
        assert audio.inspect(tmp_path / "a.mp3").channels == 2
        samples, _ = audio.load(tmp_path / "a.mp3")
        assert np.abs(samples).max() == pytest.approx(0.25, abs=0.02)

    def test_peaks_above_full_scale_are_kept(self, whole):
        """An MP3 of a square wave has them, since the decoder overshoots at its edges."""
        name = NAMES[0]
        spoil(whole, name, mp3(0.99 * np.sign(np.sin(np.arange(9600) / 9))))
        read = read_emogator(whole)
        samples, _ = audio.load(read.dataset[0]["audio"])
        assert samples.max() > 1.05


class TestProblems:
    def test_all_are_named_in_one_error(self, whole):
        for name in ("000001-03-1.mp3", "000004-30-3.mp3"):
            spoil(whole, name, None)
        for name in ("000005-03-1.mp3", "000001-31-1.mp3", "000001-03-4.mp3", "00001-03-1.mp3", "laugh.MP3"):
            spoil(whole, name, CLIP)
        (whole / "copy").mkdir()
        (whole / "copy" / "000002-15-2.mp3").write_bytes(CLIP)
        (whole / "copy" / "000002-16-2.mp3").write_bytes(b"of another category")
        spoil(whole, "000003-19-1.mp3", b"")
        spoil(whole, "000003-19-2.mp3", CLIP[: len(CLIP) // 3])
        with pytest.raises(CorpusError) as error:
            read_emogator(whole)
        problems = (
            "badly named: data/mp3/00001-03-1.mp3",
            "badly named: data/mp3/laugh.MP3",
            "duplicate: data/mp3/000002-15-2.mp3, as copy/000002-15-2.mp3",
            "missing: 000001-03-1.mp3",
            "missing: 000004-30-3.mp3",
            "extra: 000001-03-4.mp3",
            "extra: 000001-31-1.mp3",
            "extra: 000005-03-1.mp3",
            "bad audio: 000003-19-1.mp3: expected sound, found an empty file (0 bytes)",
        )
        assert error.value.problems[:-1] == problems
        assert error.value.problems[-1].startswith("bad audio: 000003-19-2.mp3: expected ")
        assert str(error.value).startswith(
            f"expected the 72 clips of 6 categories of EmoGator in {whole}, found 70 of them and "
            "2 badly named (data/mp3/00001-03-1.mp3, data/mp3/laugh.MP3); 1 duplicate ("
        )
        assert str(error.value).endswith(f"; {CURE}")
        read = read_emogator(whole, allow_partial=True)
        assert (len(read.dataset), read.problems) == (68, error.value.problems)

    def test_half_of_the_files_is_a_sentence(self, tmp_path):
        names = names_of(speakers=(1, 3))
        root = write_folder(tmp_path / "half", names)
        missing = ", ".join(names_of(speakers=(2,))[:10])
        refused(
            f"expected the 72 clips of 6 categories of EmoGator in {root}, found 36 of them and 36 missing ({missing} "
            f"and 26 more); {CURE}",
            root,
        )
        assert read_emogator(root, allow_partial=True).dataset["file"][:] == names

    def test_only_unusable_sound_can_be_skipped(self, whole):
        spoil(whole, NAMES[5], b"no sound at all")
        with pytest.raises(CorpusError, match="found 72 of them and 1 bad audio"):
            read_emogator(whole)
        assert len(read_emogator(whole, on_bad_audio="skip").dataset) == 71
        spoil(whole, NAMES[6], None)
        with pytest.raises(CorpusError, match="1 missing"):
            read_emogator(whole, on_bad_audio="skip")

    def test_a_part_with_one_category_is_refused(self, tmp_path):
        root = write_folder(tmp_path / "one", names_of(numbers=(3,)))
        refused(
            f"expected clips of at least two categories in {root}, found only Anger; give more --categories.",
            root, allow_partial=True,
        )  # fmt: skip

    def test_problems_are_one_warning(self, whole, caplog):
        spoil(whole, NAMES[0], None)
        with caplog.at_level(logging.WARNING):
            clips = hf_vivae.load_emogator(whole, allow_partial=True)
        assert len(clips) == 71
        assert (
            f"emogator clips: 1 files are missing, left out or not as expected (missing: {NAMES[0]})."
            in caplog.messages
        )


class TestRefusals:
    def test_neither_folder_nor_archive(self, tmp_path):
        expected = "a folder or an archive with EmoGator's MP3 files"
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        for path in (tmp_path / "nowhere", pipe):
            refused(f"expected {expected} at {path}, found nothing; {REMEDY}", path)

    def test_a_folder_without_mp3_files(self, tmp_path):
        (tmp_path / "000001-03-1.wav").write_bytes(b"x")
        refused(
            "expected MP3 files named as 000001-03-1.mp3 (speaker, category, take) at any depth of "
            f"{tmp_path}, found none; {REMEDY}",
            tmp_path,
        )

    def test_names_of_another_grammar(self, tmp_path):
        for number in range(5):
            (tmp_path / f"laugh-{number}.mp3").write_bytes(CLIP)
        refused(
            "expected MP3 files named as 000001-03-1.mp3 (speaker, category, take) at any depth of "
            f"{tmp_path}, found 5 with other names (laugh-0.mp3, laugh-1.mp3, laugh-2.mp3 and 2 more); {REMEDY}",
            tmp_path,
        )

    @pytest.mark.parametrize("write", [zip_of, tar_of])
    def test_an_archive_without_emogator(self, write, tmp_path):
        path = write(tmp_path / "other.archive", {"full_set/S01_anger_low_01.wav": b"RIFF", "a/b.mp3": CLIP})
        refused(
            "expected MP3 files named as 000001-03-1.mp3 (speaker, category, take) at any depth of "
            f"{path}, found 1 with other names (a/b.mp3); {REMEDY}",
            path, cache_dir=tmp_path / "cache",
        )  # fmt: skip
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize("kind", ["zip", "tar.gz"])
    def test_a_truncated_archive(self, kind, tmp_path):
        path = tmp_path / f"EmoGator.{kind}"
        zip_of(path, MEMBERS) if kind == "zip" else tar_of(path, MEMBERS, "w:gz")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError, match=r"^expected a folder or a whole archive \(zip, tar or tar\.gz\) at .*"):
            read_emogator(path, cache_dir=tmp_path / "cache")
        assert not (tmp_path / "cache").exists()


class TestArchives:
    @pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
    def test_an_archive_is_unpacked_once_and_equal_to_the_folder(self, kind, whole, tmp_path, monkeypatch):
        path, cache = tmp_path / f"EmoGator.{kind}", tmp_path / "cache"
        zip_of(path, MEMBERS) if kind == "zip" else tar_of(path, MEMBERS, "w:gz" if kind == "tar.gz" else "w")
        read = read_emogator(path, cache_dir=cache)
        assert corpus_key(read.dataset) == corpus_key(read_emogator(whole).dataset)
        assert {clip["bytes"] for clip in read.dataset["audio"]} == {None}, "not in memory"
        monkeypatch.setattr(emogator, "read_members", lambda *arguments: pytest.fail("unpacked again"))
        assert read_emogator(path, cache_dir=cache).dataset["audio"][:] == read.dataset["audio"][:]

    def test_only_the_categories_that_are_read_are_unpacked(self, tmp_path):
        names = names_of(numbers=(3, 15, 18))
        path = zip_of(tmp_path / "a.zip", {name: tagged(name) for name in names})
        read_emogator(path, ["Anger", "Fear"], cache_dir=tmp_path / "cache")
        assert len(list((tmp_path / "cache").rglob("*.mp3"))) == FEW * 6
        assert len(read_emogator(path, ["Anger", "Neutral"], cache_dir=tmp_path / "cache").dataset) == FEW * 6

    @pytest.mark.parametrize("write", [zip_of, tar_of])
    def test_paths_of_members_are_not_where_they_are_written(self, write, tmp_path):
        elsewhere = ["../../{}", "/{}", "C:\\..\\{}", "a/../../../{}"]
        members = {elsewhere[place % 4].format(name): tagged(name) for place, name in enumerate(NAMES)}
        (tmp_path / "in").mkdir()
        path = write(tmp_path / "in" / "archive", members)
        read = read_emogator(path, cache_dir=tmp_path / "in" / "cache")
        assert read.problems == ()
        written = [file for file in tmp_path.rglob("*.mp3") if not file.is_relative_to(tmp_path / "in" / "cache")]
        assert written == []

    def test_a_damaged_member_is_named_and_can_be_skipped(self, tmp_path):
        path = zip_of(tmp_path / "a.zip", MEMBERS)
        content = path.read_bytes()
        place = content.index(tagged(NAMES[7])) + 50
        path.write_bytes(content[:place] + b"????" + content[place + 4 :])
        with pytest.raises(CorpusError) as error:
            read_emogator(path, cache_dir=tmp_path)
        [problem] = error.value.problems
        assert problem.startswith(
            f"bad audio: {NAMES[7]}: expected a whole file, found a damaged member of the archive (Bad CRC-32"
        )
        assert len(read_emogator(path, on_bad_audio="skip", cache_dir=tmp_path).dataset) == 71


class TestDownload:
    @pytest.fixture
    def github(self, serve, monkeypatch) -> Server:
        """A server as GitHub's: without ranges, and without the length."""
        file = io.BytesIO()
        server = serve(["ok"], body=zip_of(file, MEMBERS).getvalue(), ranges=False)
        server.declares = False
        monkeypatch.setattr(emogator, "URL", server.url)
        return server

    def test_the_archive_is_downloaded_once(self, github, tmp_path):
        for _ in range(2):
            assert len(read_emogator(cache_dir=tmp_path).dataset) == len(NAMES)
        assert github.requests == [None]
        assert emogator.archive_path(tmp_path).read_bytes() == github.body

    def test_a_cut_download_starts_from_zero_and_says_so(self, github, tmp_path, caplog):
        github.script = ["cut", "ok"]
        assert len(read_emogator(cache_dir=tmp_path).dataset) == len(NAMES)
        assert github.requests == [None, None]
        assert caplog.messages[:1] == [
            f"Download of {github.url}: an archive that arrived cut or damaged; again from zero in 0 s."
        ]

    def test_cuts_without_an_end_are_a_sentence(self, github, tmp_path):
        github.script = ["cut"]
        with pytest.raises(NetworkError) as error:
            read_emogator(cache_dir=tmp_path)
        assert str(error.value) == (
            f"expected a download from {github.url}, found an archive that arrived cut or damaged (attempt 6); get "
            "this archive elsewhere, and give it or the folder of its clips with --data_dir."
        )
        assert len(github.requests) == 6
        assert not list(tmp_path.glob("*.part"))

    def test_a_page_in_its_place_is_refused_at_once(self, github, tmp_path):
        github.body = b"<html>no such repository</html>"
        with pytest.raises(NetworkError, match=r"found another file than a zip archive \(it begins with b'<html>no"):
            read_emogator(cache_dir=tmp_path)
        assert github.requests == [None]

    def test_a_killed_download_starts_from_zero_and_says_so(self, github, tmp_path, caplog):
        part = emogator.archive_path(tmp_path).with_suffix(".zip.part")
        part.write_bytes(github.body[:1000])
        assert len(read_emogator(cache_dir=tmp_path).dataset) == len(NAMES)
        assert github.requests == ["bytes=1000-"]
        assert caplog.messages[0] == f"{github.url} cannot continue a download, which starts from zero."

    def test_without_the_network_there_is_one_sentence(self, tmp_path):
        assert huggingface_hub.constants.HF_HUB_OFFLINE
        with pytest.raises(NetworkError) as error:
            read_emogator(cache_dir=tmp_path)
        assert str(error.value) == (
            f"expected a download from {emogator.URL}, found HF_HUB_OFFLINE=1, which forbids it; get this archive "
            "elsewhere, and give it or the folder of its clips with --data_dir."
        )

    def test_progress_is_shown(self, github, tmp_path, capsys):
        downloads.download(github.url, tmp_path / "emogator.zip")
        assert "emogator.zip: " in capsys.readouterr().err


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no recordings in {REAL}")
def test_real_recordings_are_read(tmp_path, monkeypatch):
    monkeypatch.undo()
    for file in sorted(REAL.iterdir())[:90]:
        (tmp_path / file.name).symlink_to(file)
    with pytest.raises(CorpusError, match=r"^expected the 6426 clips of 6 .*, found 90 of them and 6336 missing"):
        read_emogator(tmp_path)
    read = read_emogator(tmp_path, allow_partial=True)
    assert (len(read.dataset), read.dataset.features["audio"].sampling_rate) == (90, 48000)
    assert np.bincount(read.dataset["emotion"]).tolist() == [15] * 6
