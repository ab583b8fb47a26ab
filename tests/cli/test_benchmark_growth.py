"""The benchmark of growth: a corpus of distinct clips, each step measured, and bars that are missed are shown."""

import json
import re

import pytest
from runner import ROOT, script

from hf_vivae.corpus import read_folder
from hf_vivae.corpus.schema import clip_digests

SCRIPT = ROOT / "benchmarks" / "growth.py"


@pytest.fixture(scope="module")
def benchmark():
    return script(SCRIPT)


@pytest.fixture(scope="module")
def clips(benchmark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("growth")
    voices = benchmark.write_voices(folder / "voices", 12)
    benchmark.write_corpus(voices, folder / "clips", 40)
    return folder / "clips"


def costs(benchmark, seconds: dict[int, float], memory: dict[int, float]):
    figures = ("seconds", "step_seconds", "peak_memory_mb")
    return {
        step: {
            count: dict(zip(figures, (9 + seconds[count], seconds[count], memory[count]), strict=True))
            for count in seconds
        }
        for step in benchmark.STEPS
    }


def test_no_two_clips_are_equal_and_speakers_grow_with_the_corpus(clips):
    corpus = read_folder(clips, "^([^_]+)_")
    assert (len(corpus.dataset), len(set(clip_digests(corpus.dataset)))) == (40, 40)
    of_copies = {speaker[:4] for speaker in corpus.dataset["speaker"]}
    assert of_copies == {"0000", "0001", "0002", "0003"}
    assert len(set(corpus.dataset["speaker"])) > 12


def test_each_step_goes_on_from_the_files_of_the_one_before(benchmark, clips, monkeypatch):
    monkeypatch.setenv("HF_VIVAE_CACHE", str(clips.parent / "cache"))
    for step in benchmark.STEPS:
        assert benchmark.measure_step(step, "mlp", clips.parent) > 0
    assert json.loads((clips.parent / "evaluation" / "results.json").read_text())["groups"]
    assert len((clips.parent / "scores.csv").read_text().splitlines()) == 1 + 40


def test_sizes_above_the_largest_of_a_step_are_left_out_unless_it_is_named(benchmark):
    arguments = benchmark.GrowthArguments(sizes=[64, 1, 4], base=10)
    assert benchmark.plan_steps(arguments) == {10: [*benchmark.STEPS], 40: [*benchmark.STEPS], 640: ["predict"]}
    named = benchmark.GrowthArguments(sizes=[1, 64], base=10, steps=["load"])
    assert benchmark.plan_steps(named) == {10: ["load"], 640: ["load"]}
    whole = benchmark.GrowthArguments(emogator_size=True, steps=["train"])
    assert benchmark.plan_steps(whole) == {32_130: ["train"]}


def test_lines_compare_the_largest_corpus_with_the_bars(benchmark):
    flat = costs(benchmark, {100: 1.0, 400: 4.0, 1600: 16.0}, {100: 900, 400: 950, 1600: 1000})
    assert benchmark.verdicts(flat)[:2] == [
        "load: each further clip takes 1.00 times as long, within 1.1", "load: memory grows by 1.11, within 1.5",
    ]  # fmt: skip
    steep = costs(benchmark, {100: 1.0, 400: 4.0, 1600: 64.0}, {100: 900, 400: 950, 1600: 9000})
    assert benchmark.verdicts(steep)[:2] == [
        "load: each further clip takes 5.00 times as long, ABOVE 1.1", "load: memory grows by 10.00, ABOVE 1.5",
    ]  # fmt: skip
    large = costs(benchmark, {32_130: 60.0}, {32_130: 3100})
    assert benchmark.verdicts(large)[0] == "load: 3,100 MB, ABOVE 3,000"


def test_table_and_curves_show_what_was_measured(benchmark, tmp_path):
    measured = costs(benchmark, {100: 1.0, 400: 4.0, 1600: 16.0}, {100: 900, 400: 950, 1600: 1000})
    table = benchmark.cost_table(measured, "vit-32-30", 3).to_markdown()
    assert "| load | 400 | 13.0 | 4.0 | 10.00 | 10.00 | 950 |" in table
    figure = benchmark.draw(measured)
    time, memory = figure.axes
    assert time.lines[0].get_xydata().tolist() == [[400, 10], [1600, 10]]
    assert memory.lines[-1].get_xydata().tolist() == [[100, 900], [400, 950], [1600, 1000]]
    assert (time.get_xscale(), memory.get_xscale()) == ("log", "log")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (
            ["--sizes", "0"],
            "error: expected --sizes and --repeats of at least 1 and --base of 2 to 1085, found 0, 3 and ",
        ),
        (
            ["--base", "2000"],
            "error: expected --sizes and --repeats of at least 1 and --base of 2 to 1085, found 1, 3 an",
        ),
        (["--steps", "loading"], "expected the step to be one of"),
    ],
)
def test_impossible_requests_are_sentences(benchmark, argv, sentence):
    with pytest.raises((SystemExit, ValueError), match=f"^{re.escape(sentence)}"):
        benchmark.main(argv)
