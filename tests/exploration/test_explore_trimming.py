"""Effect of trimming on a corpus: the numbers, figures and flags of the exploration."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from runner import ROOT, script

from hf_vivae.corpus import load_corpus
from hf_vivae.corpus.schema import Corpus
from hf_vivae.exploration import figures as exploration_figures
from hf_vivae.exploration import trimming as figures
from hf_vivae.exploration.describe import describe_trimming, explore, format_exploration, read_clips
from hf_vivae.exploration.figures import Example
from hf_vivae.exploration.trimming import Cuts, measure_cuts

CORPUS_FIGURES = {key for key in exploration_figures.FIGURES if key.startswith("figure_")}
TRIM = {"trim_db": 40.0, "trim_margin": 0.0, "trim_min_seconds": 0.1}


@pytest.fixture(scope="module")
def silences(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Clips of 0.5 s of noise; `b` has 0.1 s of silence before it, `c` 0.2 s before and 0.3 s after it."""
    root = tmp_path_factory.mktemp("silences")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4000)
    for label, around in (("a", (0, 0)), ("b", (800, 0)), ("c", (1600, 2400))):
        (root / label).mkdir()
        soundfile.write(root / label / "$x$.wav", np.pad(noise, around), 8000)
    return load_corpus("folder", data_dir=root)


def test_what_it_would_cut_is_counted_for_all_and_for_each_label(silences, tmp_path):
    numbers, _ = explore(silences, tmp_path, trim=TRIM)
    trimming = json.loads((tmp_path / "exploration.json").read_text())["trimming"]
    assert trimming == numbers["trimming"]
    assert TRIM.items() <= trimming.items()
    assert (trimming["clips"], trimming["clips_cut"]) == (3, 2)
    assert (trimming["seconds_before"], trimming["seconds_after"]) == pytest.approx((2.1, 1.5))
    assert trimming["longest_cut"] == {"file": "c/$x$.wav", "seconds": pytest.approx(0.5)}
    assert [entry["share_cut"] for entry in trimming["by_emotion"].values()] == pytest.approx([0, 1 / 6, 0.5])
    assert trimming["by_speaker"] is trimming["by_intensity"] is None
    lines = format_exploration(numbers).splitlines()
    assert "trimmed 40 dB below the loudest, margin 0 s: 2 of 3 clips are cut, 0.6 of 2.1 s (28.6%)" in lines
    assert "longest cut: 0.500 s of c/$x$.wav; shortest clip that is left: 0.500 s" in lines
    assert lines[-1].split() == ["c", "1", "50.0%", "0.200", "s", "0.300", "s"]


def test_speakers_and_intensities_are_counted_where_they_are_known(tiny_vivae):
    corpus = load_corpus("vivae", data_dir=tiny_vivae, allow_partial=True)
    trimming = describe_trimming(read_clips(corpus), measure_cuts(corpus.dataset, TRIM), TRIM)
    for by in ("emotion", "speaker", "intensity"):
        assert sum(entry["clips"] for entry in trimming[f"by_{by}"].values()) == 48


def test_figures_are_written_and_deleted_by_an_exploration_without_trimming(silences, tmp_path):
    _, paths = explore(silences, tmp_path, trim=TRIM)
    assert paths.keys() == CORPUS_FIGURES | figures.FIGURES.keys()
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths.values())
    numbers, _ = explore(silences, tmp_path)
    assert "trimming" not in numbers
    assert {path.stem for path in tmp_path.glob("*.png")} == CORPUS_FIGURES


@pytest.mark.parametrize(
    ("cut", "rows"),
    [
        ([0.0, 3.0, 0.0, 1.0, 2.0], {"longest cut": 1, "median cut": 4, "no cut": 0}),
        ([0.4, 0.1, 0.2, 0.3], {"longest cut": 0, "median cut": 2, "shortest cut": 1}),
        ([0.0, 0.7], {"longest cut": 1, "no cut": 0}),
        ([0.7], {"longest cut": 0}),
        ([0.0, 0.0], {"no cut": 0}),
    ],
)
def test_the_example_clips(cut, rows):
    files = tuple(map(str, range(len(cut))))
    cuts = Cuts(files, np.full(len(cut), 9.0), np.array(cut), np.zeros(len(cut)))
    assert figures.example_rows(cuts) == rows


def test_a_clip_is_drawn_before_and_after_with_what_is_cut_shaded():
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4000).astype(np.float32)
    clip = Example("synthetic", "c.wav", np.pad(noise, (1600, 2400)), 8000)
    before, level, after = figures.draw_cut_clips({"longest cut": clip}, TRIM).axes
    assert np.array_equal(before.lines[0].get_ydata(), clip.samples)
    assert np.array_equal(after.lines[0].get_ydata(), noise)
    for axes in (before, level):
        shades = axes.patches[-2:]
        assert [shade.get_x() for shade in shades] == pytest.approx([0, 0.7])
        assert [shade.get_width() for shade in shades] == pytest.approx([0.2, 0.3])
    assert level.lines[0].get_ydata()[0] == -40
    levels = level.patches[0].get_data().values
    assert levels.max() == 0
    assert np.array_equal(np.flatnonzero(levels > -40), np.arange(20, 70))
    assert before.get_title("left") == "longest cut: synthetic clip c.wav, 1.000 s before and 0.500 s after"


def test_a_clip_of_zeros_is_drawn_whole():
    clip = Example("synthetic", "c.wav", np.zeros(1000, np.float32), 8000)
    before, level, after = figures.draw_cut_clips({"no cut": clip}, TRIM).axes
    assert len(after.lines[0].get_ydata()) == 1000
    assert not before.patches
    assert set(level.patches[0].get_data().values) == {figures.LOWEST}


def test_the_histograms_count_the_clips_that_are_cut():
    start, end = np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.0, 0.2])
    cuts = Cuts(("a", "b", "c"), np.full(3, 9.0), start, end)
    panels = figures.draw_cut_seconds("synthetic", cuts, TRIM).axes
    assert [sum(bar.get_height() for bar in axes.patches) for axes in panels] == [2, 1]
    assert [axes.get_title() for axes in panels] == [
        "beginning: 2 of 3 clips are cut",
        "end: 1 of 3 clips are cut",
    ]
    assert [axes.lines[0].get_xdata()[0] for axes in panels] == pytest.approx([0.5, 0.2 / 3])


def test_trimming_is_asked_for_by_flags(silences, tmp_path, capsys):
    folder = str(Path(silences.dataset[0]["audio"]["path"]).parents[1])
    argv = ["--data", "folder", "--data_dir", folder, "--output_dir", str(tmp_path), "--trim_db", "40"]
    script(ROOT / "recipes" / "explore.py").main([*argv, "--trim_margin", "0"])
    printed = capsys.readouterr().out
    assert "2 of 3 clips are cut" in printed
    assert all(str(tmp_path / f"{key}.png") in printed for key in figures.FIGURES)
