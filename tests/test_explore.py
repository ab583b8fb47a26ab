"""The exploration's numbers are those of the clips, its pictures show what the models get, and its flags are named."""

import json
import logging
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from runner import ROOT, script

from hf_vivae.corpus import EMOTIONS, INTENSITIES, load_corpus
from hf_vivae.corpus.schema import Corpus
from hf_vivae.corpus_arguments import CorpusArguments
from hf_vivae.evaluation import exploration_figures as figures
from hf_vivae.evaluation.exploration import describe, explore
from hf_vivae.evaluation.exploration_clips import read_clips
from hf_vivae.flags import parse_flags
from hf_vivae.models import LogMelFeatureExtractor, WaveformFeatureExtractor
from hf_vivae.models.features_mel import mel_filters

EXPLORE = ROOT / "recipes" / "explore.py"
CORPUS_FIGURES = {key for key in figures.FIGURES if key.startswith("figure_")}


@pytest.fixture(scope="module")
def tiny(tiny_vivae: Path) -> Corpus:
    return load_corpus("vivae", data_dir=tiny_vivae, allow_partial=True)


@pytest.fixture(scope="module")
def explored(tiny: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict[str, Path], Path]:
    folder = tmp_path_factory.mktemp("explored")
    return *explore(tiny, folder), folder


@pytest.fixture
def folder_corpus(tmp_path: Path) -> Callable[..., Corpus]:
    """Makes a corpus of 16 classes: clip k of n has 100 (k + 1) samples, at one rate of several in turn."""

    def make(rates: tuple[int, ...] = (16000,), clips: int = 32, metadata: str | None = None) -> Corpus:
        root = tmp_path / "clips"
        for index in range(clips):
            file = root / f"class-{index % 16:02d}" / f"clip_{index}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            wave = 0.5 * np.sin(np.arange(100 * (index + 1)) / 5)
            soundfile.write(file, wave, rates[index % len(rates)])
        if metadata:
            (root / "metadata.csv").write_text(metadata)
        return load_corpus("folder", data_dir=root)

    return make


def example(samples: int, sampling_rate: int = 44100) -> figures.Example:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)
    return figures.Example("synthetic", "a.wav", noise, sampling_rate)


class TestNumbers:
    def test_lengths_are_those_of_the_files(self, tiny_vivae, explored):
        numbers = explored[0]
        samples = np.array([soundfile.info(file).frames for file in sorted((tiny_vivae / "full_set").iterdir())])
        for unit, values in (("samples", samples), ("seconds", samples / 44100)):
            found = numbers["lengths"][unit]
            assert found == pytest.approx({
                "count": 48, "min": min(values), "max": max(values), "mean": np.mean(values), "std": np.std(values),
                "lower_quartile": np.percentile(values, 25), "median": np.percentile(values, 50),
                "upper_quartile": np.percentile(values, 75),
            })  # fmt: skip
        assert numbers["sampling_rates"] == {"44100": 48}
        edges, counts = numbers["histogram"]["edges"], numbers["histogram"]["counts"]
        assert (numbers["histogram"]["unit"], len(edges), len(counts), sum(counts)) == ("samples", 17, 16, 48)
        assert np.diff(edges) == pytest.approx(np.full(16, (max(samples) - min(samples)) / 16))
        assert counts[3] == ((samples >= edges[3]) & (samples < edges[4])).sum()

    def test_labels_have_counts_and_shares(self, tmp_path):
        for label, clips in (("b", 3), ("a", 1), ("c", 2)):
            (tmp_path / label).mkdir()
            for index in range(clips):
                soundfile.write(tmp_path / label / f"{index}.wav", np.ones(80), 8000)
        numbers = describe(read_clips(load_corpus("folder", data_dir=tmp_path)))
        assert {name: entry["count"] for name, entry in numbers["labels"].items()} == {"a": 1, "b": 3, "c": 2}
        assert sum(entry["share"] for entry in numbers["labels"].values()) == pytest.approx(1)
        assert numbers["majority"] == {"label": "b", "share": 0.5}
        assert numbers["chance"] == pytest.approx(1 / 3)

    @pytest.mark.parametrize("by", ["speaker", "intensity", "emotion"])
    def test_groups_partition_the_clips(self, tiny, explored, by):
        numbers = explored[0]
        names = {"speaker": sorted(set(tiny.dataset["speaker"])), "intensity": list(INTENSITIES), "emotion": EMOTIONS}
        groups = numbers[f"by_{by}"]
        assert list(groups) == list(names[by])
        assert sum(group["samples"]["count"] for group in groups.values()) == 48
        column = tiny.dataset[by][:]
        last = list(groups)[-1]
        code = last if by == "speaker" else list(names[by]).index(last)
        seconds = np.array(tiny.dataset["duration"])[[value == code for value in column]]
        assert groups[last]["seconds"]["mean"] == pytest.approx(seconds.mean())
        assert groups[last]["seconds"]["count"] == len(seconds)

    def test_emotions_are_counted_by_speaker_and_intensity(self, tiny, explored):
        rows = tiny.dataset.remove_columns("audio").to_list()
        for row in rows:
            row["intensity"] = INTENSITIES[row["intensity"]]
        for by in ("speaker", "intensity"):
            table = explored[0][f"emotion_by_{by}"]
            assert sum(sum(counts.values()) for counts in table.values()) == 48
            for emotion, counts in table.items():
                for group, count in counts.items():
                    members = [row for row in rows if EMOTIONS[row["emotion"]] == emotion and row[by] == group]
                    assert count == len(members), (emotion, group)

    def test_the_file_holds_what_is_returned_and_what_is_missing(self, tiny, explored):
        numbers, _, folder = explored
        assert json.loads((folder / "exploration.json").read_text()) == numbers
        assert numbers["corpus"] == "vivae"
        assert numbers["problems"] == list(tiny.problems) != []

    def test_rates_may_differ(self, folder_corpus):
        numbers = describe(read_clips(folder_corpus(rates=(8000, 16000, 44100))))
        lengths = [100 * (index + 1) / (8000, 16000, 44100)[index % 3] for index in range(32)]
        assert numbers["lengths"]["seconds"]["mean"] == pytest.approx(np.mean(lengths))
        assert numbers["sampling_rates"] == {"8000": 11, "16000": 11, "44100": 10}
        assert numbers["histogram"]["unit"] == "seconds"
        assert numbers["histogram"]["edges"][-1] == pytest.approx(max(lengths))
        assert "the clips have 3 sampling rates, so the histogram counts seconds and not samples" in numbers["notes"]

    def test_clips_without_a_speaker_are_a_group_and_a_note(self, folder_corpus):
        lines = [
            "file,label,speaker",
            *(f"class-{i:02d}/clip_{i}.wav,l{i % 2},{'ann' if i else ''}" for i in range(4)),
        ]
        numbers = describe(read_clips(folder_corpus(clips=4, metadata="\n".join(lines))))
        assert {name: group["samples"]["count"] for name, group in numbers["by_speaker"].items()} == {
            "ann": 3,
            "(none)": 1,
        }
        assert numbers["notes"] == [
            "1 of 4 clips have no known speaker and form the group (none)",
            "no clip has a known intensity, so there is no by_intensity.png",
        ]

    def test_a_label_without_clips_counts_for_chance_and_is_noted(self, tiny):
        few = Corpus("vivae", tiny.dataset.filter(lambda row: row["emotion"] != 2))
        numbers = describe(read_clips(few))
        assert numbers["labels"]["fear"] == {"count": 0, "share": 0.0}
        assert numbers["notes"] == ["no clip has the label fear"]
        assert numbers["chance"] == pytest.approx(1 / 6)


class TestExample:
    def test_by_default_its_length_is_nearest_the_median(self, tiny, explored):
        seconds = np.array(tiny.dataset["duration"])
        distance = np.abs(seconds - np.median(seconds))
        chosen = explored[0]["example"]
        row = tiny.dataset["file"][:].index(chosen["file"])
        assert distance[row] == distance.min()
        assert chosen["seconds"] == seconds[row]

    def test_it_is_the_clip_that_is_named(self, tiny, tmp_path):
        name = tiny.dataset["file"][7]
        assert explore(tiny, tmp_path, name)[0]["example"]["file"] == name

    def test_an_unknown_clip_is_an_error_with_the_nearest_name(self, tiny, tmp_path):
        name = tiny.dataset["file"][7]
        sentence = (
            f"expected a clip of the corpus as the example, found '{name[:-1]}' (did you mean {name}?); "
            "give a name of the column file."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            explore(tiny, tmp_path / "out", name[:-1])
        assert not (tmp_path / "out").exists()


class TestFigures:
    def test_each_has_a_caption_and_is_a_picture(self, explored):
        _, paths, folder = explored
        assert paths == {key: folder / f"{key}.png" for key in figures.FIGURES}
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths.values())

    def test_a_corpus_without_groups_has_none_and_none_is_left_from_another(self, folder_corpus, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "by_speaker.png").write_bytes(b"of another corpus")
        numbers, paths = explore(folder_corpus(), tmp_path / "out")
        assert paths.keys() == CORPUS_FIGURES
        assert {path.stem for path in (tmp_path / "out").glob("*.png")} == CORPUS_FIGURES
        assert numbers["by_speaker"] is numbers["emotion_by_intensity"] is None
        assert "no clip has a known speaker, so there is no by_speaker.png" in numbers["notes"]

    def test_titles_name_the_corpus(self, tiny):
        clips = read_clips(Corpus("synthetic", tiny.dataset))
        numbers = describe(clips)
        groups = {name: clips.seconds[rows] for name, rows in clips.members("speaker").items()}
        drawn = [
            figures.draw_lengths(numbers),
            figures.draw_labels(numbers),
            figures.draw_groups(numbers, "speaker", groups),
            *(draw(example(100)) for draw in (figures.draw_waveform, figures.draw_mel, figures.draw_resampled)),
        ]
        assert all("synthetic" in figure.axes[0].get_title() for figure in drawn)

    def test_lengths(self, explored):
        numbers = explored[0]
        axes = figures.draw_lengths(numbers).axes[0]
        assert [bar.get_height() for bar in axes.patches] == numbers["histogram"]["counts"]
        assert axes.patches[4].get_x() == numbers["histogram"]["edges"][4]
        samples = numbers["lengths"]["samples"]
        lines = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
        assert lines == {f"{name} {samples[name]:,.0f} samples": samples[name] for name in ("mean", "median")}
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("length (samples)", "clips")
        assert axes.child_axes[0].get_xlabel() == "length (s at 44,100 Hz)"

    def test_lengths_of_several_rates_are_in_seconds(self, folder_corpus):
        axes = figures.draw_lengths(describe(read_clips(folder_corpus(rates=(8000, 16000))))).axes[0]
        assert axes.get_xlabel() == "length (seconds)"
        assert not axes.child_axes

    @pytest.mark.parametrize("samples", [30001, 44100, 50000])
    def test_the_waveform_is_the_extractors(self, samples):
        clip = example(samples)
        axes = figures.draw_waveform(clip).axes[0]
        drawn = axes.lines[0].get_ydata()
        expected = WaveformFeatureExtractor()(clip.samples, sampling_rate=44100)["input_values"][0]
        assert np.array_equal(drawn, expected)
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (s)", "amplitude (full scale = 1)")
        assert len(axes.collections) == (samples < 44100)

    def test_the_shade_covers_the_padding_and_no_sound(self):
        clip = example(30001)
        (shade,) = figures.draw_waveform(clip).axes[0].collections
        left, right = (path.vertices[:, 0] for path in shade.get_paths())
        assert (left.min(), left.max()) == (0, pytest.approx(7048 / 44100))
        assert (right.min(), right.max()) == (pytest.approx(37050 / 44100), pytest.approx(44099 / 44100))

    @pytest.mark.parametrize(("samples", "rate"), [(30000, 44100), (60000, 44100), (9000, 16000)])
    def test_the_spectrogram_is_the_extractors(self, samples, rate):
        clip = example(samples, rate)
        figure = figures.draw_mel(clip)
        axes, bar = figure.axes
        mesh = next(artist for artist in axes.collections if artist.get_array() is not None)
        expected = LogMelFeatureExtractor()(figures.resample(clip.samples, rate, 44100), sampling_rate=44100)
        assert np.array_equal(mesh.get_array(), expected["input_features"][0, 0])
        assert mesh.get_array().shape == (64, 690)
        labels = axes.get_xlabel(), axes.get_ylabel(), bar.get_ylabel()
        assert labels == ("time (s)", "frequency (Hz, mel scale)", "power (dB)")
        assert [tick.get_text() for tick in axes.get_yticklabels()] == (
            ["250", "500", "1,000", "2,000", "4,000", "8,000", "16,000"]
        )
        assert axes.get_xlim() == pytest.approx((0, 1), abs=1e-3)

    def test_bands_lie_where_their_filters_peak(self):
        extractor = LogMelFeatureExtractor()
        peaks = mel_filters(64, 513, 44100).argmax(0) * 22050 / 512
        wide = slice(20, None)  # filters of several bins, whose peak is not chance
        assert figures.mel_centres(extractor)[wide] == pytest.approx(peaks.numpy()[wide], abs=22050 / 512)

    def test_labels(self, folder_corpus):
        numbers = describe(read_clips(folder_corpus(clips=33)))
        axes = figures.draw_labels(numbers).axes[0]
        assert [bar.get_width() for bar in axes.patches] == [3] + [2] * 15
        assert [tick.get_text() for tick in axes.get_yticklabels()] == [f"class-{k:02d}" for k in range(16)]
        written = [tick.get_text() for tick in axes.child_axes[0].get_yticklabels()]
        assert written == ["3 (9.1%)"] + ["2 (6.1%)"] * 15
        _, texts = axes.get_legend_handles_labels()
        assert set(texts) == {"always class-00: 9.1% right", "equal shares (chance): 6.2%"}
        assert axes.lines[0].get_xdata()[0] == pytest.approx(33 / 16)

    @pytest.mark.parametrize(("samples", "kept"), [(30000, math.ceil(30000 * 16000 / 44100)), (60000, 16000)])
    def test_the_resampled_waveform_lies_over_the_original(self, samples, kept):
        clip = example(samples)
        above, below = figures.draw_resampled(clip).axes
        for axes in (above, below):
            original, resampled = axes.lines
            assert np.array_equal(original.get_ydata(), clip.samples[:44100])
            assert len(resampled.get_ydata()) == kept
            assert np.array_equal(resampled.get_xdata(), np.arange(kept) / 16000)
        left, right = below.get_xlim()
        assert right - left == pytest.approx(0.004)
        assert left <= np.abs(clip.samples[:44100]).argmax() / 44100 <= right

    def test_a_clip_at_16_khz_is_not_resampled_and_the_title_says_so(self):
        clip = example(20000, 16000)
        axes = figures.draw_resampled(clip).axes[0]
        assert "nothing is resampled" in axes.get_title()
        assert np.array_equal(axes.lines[1].get_ydata(), clip.samples[:16000])

    def test_groups_show_counts_and_lengths(self, tiny, explored):
        clips = read_clips(tiny)
        seconds = {name: clips.seconds[rows] for name, rows in clips.members("intensity").items()}
        above, below = figures.draw_groups(explored[0], "intensity", seconds).axes
        assert [tick.get_text() for tick in below.get_xticklabels()] == (
            [f"{name}\n{len(seconds[name])}" for name in INTENSITIES]
        )
        table = explored[0]["emotion_by_intensity"]
        assert above.images[0].get_array().tolist() == [list(row.values()) for row in table.values()]
        assert [int(text.get_text()) for text in above.texts] == [n for row in table.values() for n in row.values()]
        medians = [line.get_ydata()[0] for line in below.lines if line.get_color() == figures.ORANGE]
        assert medians == pytest.approx([np.median(values) for values in seconds.values()])

    def test_of_many_groups_those_with_most_clips_are_drawn_and_the_title_says_so(self):
        seconds = {f"s{k:02d}": np.ones(1 + (k >= 5)) for k in range(35)}
        numbers = {
            "clips": 65,
            "corpus": "folder",
            "emotion_by_speaker": {"x": {name: len(values) for name, values in seconds.items()}},
        }
        above, below = figures.draw_groups(numbers, "speaker", seconds).axes
        assert [tick.get_text() for tick in below.get_xticklabels()] == [f"s{k:02d}\n2" for k in range(5, 35)]
        assert above.get_title() == "65 folder clips by speaker: the 30 of 35 with most clips"

    def test_a_dollar_in_a_name_is_no_formula(self, tmp_path):
        for label in ("$_$", "b"):
            (tmp_path / "clips" / label).mkdir(parents=True)
            soundfile.write(tmp_path / "clips" / label / "$^$.wav", np.ones(80), 8000)
        _, paths = explore(load_corpus("folder", data_dir=tmp_path / "clips"), tmp_path / "out")
        assert paths.keys() == CORPUS_FIGURES


class TestScript:
    def test_it_writes_prints_and_names_the_files(self, tiny_vivae, tmp_path, capsys):
        argv = ["--data_dir", str(tiny_vivae), "--allow_partial", "--output_dir", str(tmp_path / "out")]
        script(EXPLORE).main(argv)
        printed = capsys.readouterr().out
        assert printed.startswith("48 vivae clips at 44,100 Hz: 6 labels, 4 speakers, 4 intensities\n")
        assert "always achievement is right for 16.7% of the vivae clips, chance for 16.7%" in printed
        written = {path.name for path in (tmp_path / "out").iterdir()}
        assert written == {"exploration.json", *(f"{key}.png" for key in figures.FIGURES)}
        assert all(str(tmp_path / "out" / name) in printed for name in written)

    def test_without_a_folder_to_write_to_it_has_its_own(self, folder_corpus, tmp_path, monkeypatch):
        folder_corpus()
        monkeypatch.chdir(tmp_path)
        script(EXPLORE).main(["--data", "folder", "--data_dir", "clips"])
        assert (tmp_path / "runs" / "folder" / "exploration" / "exploration.json").is_file()

    @pytest.mark.parametrize(
        ("argv", "sentence"),
        [
            (
                ["--data", "synthetic", "--trim_db", "0"],
                "expected --trim_db above 0, found 0; usual ones lie between 20 and 60.",
            ),
            (
                ["--data", "synthetic", "--synthetic_sed", "1"],
                "unknown argument '--synthetic_sed' (did you mean --synthetic_seed?); see --help for all of them.",
            ),
            (["--clpi=x"], "unknown argument '--clpi' (did you mean --clip?); see --help for all of them."),
            (
                ["--data", "folder"],
                "expected the folder of the clips with --data folder, found none; give it with --data_dir.",
            ),
            (
                ["--data", "synthetic", "--subset", "core"],
                "expected only options that --data synthetic has, found --subset; leave them out.",
            ),
        ],
    )
    def test_what_is_misspelt_or_missing_is_named(self, argv, sentence):
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            script(EXPLORE).main(argv)

    def test_a_choice_that_is_none_is_named(self):
        with pytest.raises(
            ValueError, match=r"^argument --subset: invalid choice: 'ful' .*; see --help for all arguments\.$"
        ):
            script(EXPLORE).main(["--subset", "ful"])

    def test_a_file_in_the_place_of_the_folder_is_named(self, tiny_vivae, tmp_path):
        (tmp_path / "out").write_text("")
        sentence = f"expected a folder for the pictures, found that {tmp_path / 'out'} is a file; give another."
        argv = ["--data_dir", str(tiny_vivae), "--allow_partial", "--output_dir", str(tmp_path / "out")]
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            script(EXPLORE).main(argv)


class TestCorpusArguments:
    def test_they_load_what_they_say_and_warn_of_what_is_missing(self, tiny_vivae, caplog):
        arguments = parse_flags(CorpusArguments, ["--data_dir", str(tiny_vivae), "--allow_partial"], "")
        with caplog.at_level(logging.WARNING):
            corpus = arguments.load()
        assert len(corpus.dataset) == 48
        assert f"{len(corpus.problems)} files are left out or missing: " in caplog.text
        assert f"; and {len(corpus.problems) - 5} more" in caplog.text

    def test_the_folder_is_kept_as_an_absolute_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert CorpusArguments(data_dir="here").data_dir == str(tmp_path / "here")
