"""The figures of an exploration show the clips, the features of the extractors and the counts."""

import math

import numpy as np
import pytest
import soundfile
from exploring import CORPUS_FIGURES

from hf_vivae.corpus import INTENSITIES, load_corpus
from hf_vivae.corpus.schema import Corpus
from hf_vivae.exploration import figures
from hf_vivae.exploration.describe import describe, explore, read_clips
from hf_vivae.models import LogMelFeatureExtractor, WaveformFeatureExtractor
from hf_vivae.models.features_mel import mel_filters


def example(samples: int, sampling_rate: int = 44100) -> figures.Example:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)
    return figures.Example("synthetic", "a.wav", noise, sampling_rate)


def test_each_figure_is_a_png_with_a_caption(explored):
    _, paths, folder = explored
    assert paths == {key: folder / f"{key}.png" for key in figures.FIGURES}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths.values())


def test_a_corpus_without_groups_has_no_figure_of_them(folder_corpus, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "by_speaker.png").write_bytes(b"of another corpus")
    numbers, paths = explore(folder_corpus(), tmp_path / "out")
    assert paths.keys() == CORPUS_FIGURES
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == CORPUS_FIGURES
    assert numbers["by_speaker"] is numbers["emotion_by_intensity"] is None
    assert "no clip has a known speaker, so there is no by_speaker.png" in numbers["notes"]


def test_titles_name_the_corpus(tiny):
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


def test_lengths(explored):
    numbers = explored[0]
    axes = figures.draw_lengths(numbers).axes[0]
    assert [bar.get_height() for bar in axes.patches] == numbers["histogram"]["counts"]
    assert axes.patches[4].get_x() == numbers["histogram"]["edges"][4]
    samples = numbers["lengths"]["samples"]
    lines = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
    assert lines == {f"{name} {samples[name]:,.0f} samples": samples[name] for name in ("mean", "median")}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("length (samples)", "clips")
    assert axes.child_axes[0].get_xlabel() == "length (s at 44,100 Hz)"


def test_lengths_of_several_rates_are_in_seconds(folder_corpus):
    axes = figures.draw_lengths(describe(read_clips(folder_corpus(rates=(8000, 16000))))).axes[0]
    assert axes.get_xlabel() == "length (seconds)"
    assert not axes.child_axes


@pytest.mark.parametrize("samples", [30001, 44100, 50000])
def test_the_waveform_is_the_extractors(samples):
    clip = example(samples)
    axes = figures.draw_waveform(clip).axes[0]
    drawn = axes.lines[0].get_ydata()
    expected = WaveformFeatureExtractor()(clip.samples, sampling_rate=44100)["input_values"][0]
    assert np.array_equal(drawn, expected)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (s)", "amplitude (full scale = 1)")
    assert len(axes.collections) == (samples < 44100)


def test_the_shade_covers_the_padding_and_no_sound():
    clip = example(30001)
    (shade,) = figures.draw_waveform(clip).axes[0].collections
    left, right = (path.vertices[:, 0] for path in shade.get_paths())
    assert (left.min(), left.max()) == (0, pytest.approx(7048 / 44100))
    assert (right.min(), right.max()) == (pytest.approx(37050 / 44100), pytest.approx(44099 / 44100))


@pytest.mark.parametrize(("samples", "rate"), [(30000, 44100), (60000, 44100), (9000, 16000)])
def test_the_spectrogram_is_the_extractors(samples, rate):
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


def test_bands_lie_where_their_filters_peak():
    extractor = LogMelFeatureExtractor()
    peaks = mel_filters(64, 513, 44100).argmax(0) * 22050 / 512
    wide = slice(20, None)  # filters of several bins, whose peak is well defined
    assert figures.mel_centres(extractor)[wide] == pytest.approx(peaks.numpy()[wide], abs=22050 / 512)


def test_labels(folder_corpus):
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
def test_the_resampled_waveform_lies_over_the_original(samples, kept):
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


def test_a_clip_at_16_khz_is_not_resampled_and_the_title_states_it():
    clip = example(20000, 16000)
    axes = figures.draw_resampled(clip).axes[0]
    assert "nothing is resampled" in axes.get_title()
    assert np.array_equal(axes.lines[1].get_ydata(), clip.samples[:16000])


def test_groups_show_counts_and_lengths(tiny, explored):
    clips = read_clips(tiny)
    seconds = {name: clips.seconds[rows] for name, rows in clips.members("intensity").items()}
    above, below = figures.draw_groups(explored[0], "intensity", seconds).axes
    assert [tick.get_text() for tick in below.get_xticklabels()] == (
        [f"{name}\n{len(seconds[name])}" for name in INTENSITIES]
    )
    table = explored[0]["emotion_by_intensity"]
    assert above.images[0].get_array().tolist() == [list(row.values()) for row in table.values()]
    assert [int(text.get_text()) for text in above.texts] == [n for row in table.values() for n in row.values()]
    medians = [line.get_ydata()[0] for line in below.lines if line.get_color() == figures.VERMILION]
    assert medians == pytest.approx([np.median(values) for values in seconds.values()])


def test_of_many_groups_those_with_most_clips_are_drawn_and_the_title_states_it():
    seconds = {f"s{k:02d}": np.ones(1 + (k >= 5)) for k in range(35)}
    numbers = {
        "clips": 65,
        "corpus": "folder",
        "emotion_by_speaker": {"x": {name: len(values) for name, values in seconds.items()}},
    }
    above, below = figures.draw_groups(numbers, "speaker", seconds).axes
    assert [tick.get_text() for tick in below.get_xticklabels()] == [f"s{k:02d}\n2" for k in range(5, 35)]
    assert above.get_title() == "65 folder clips by speaker: the 30 of 35 with most clips"


def test_a_dollar_in_a_name_is_no_formula(tmp_path):
    for label in ("$_$", "b"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        soundfile.write(tmp_path / "clips" / label / "$^$.wav", np.ones(80), 8000)
    _, paths = explore(load_corpus("folder", data_dir=tmp_path / "clips"), tmp_path / "out")
    assert paths.keys() == CORPUS_FIGURES
