"""Figures of the cost of attention: all are there, medians are medians; their size is not tested."""

import json
import re
import shutil
import sys

import pytest
from runner import ROOT, script

SCRIPT = ROOT / "benchmarks" / "attention.py"


@pytest.fixture
def benchmark(monkeypatch):
    module = script(SCRIPT)
    monkeypatch.setattr(module, "SECONDS", 0.01)
    return module


@pytest.fixture
def costs(benchmark, monkeypatch) -> list[tuple[str, int]]:
    """Turns in which a measurement was requested; its values are made up, and higher in the first turn."""
    turns = []

    def measure(kind: str, tokens: int) -> dict[str, float]:
        turns.append((kind, tokens))
        value = float(tokens * (1 + list(benchmark.KINDS).index(kind)))
        return {"milliseconds": value * (9, 1, 2)[turns.count((kind, tokens)) - 1], "memory_mb": value}

    monkeypatch.setattr(benchmark, "measure_apart", measure)
    return turns


@pytest.mark.parametrize("kind", ["performer", "sdpa", "sdpa, dropout", "eager"])
def test_each_kind_of_attention_is_measured(benchmark, kind):
    cost = benchmark.measure_layer(kind, 8)
    assert tuple(cost) == tuple(benchmark.FIGURES)
    assert cost["milliseconds"] > 0


@pytest.mark.slow
def test_a_measurement_has_a_process_of_its_own(tmp_path, monkeypatch):
    shutil.copy(SCRIPT, tmp_path)  # not from recipes/, whose evaluate.py would hide the library of that name
    monkeypatch.syspath_prepend(tmp_path)
    module = script(tmp_path / SCRIPT.name)
    monkeypatch.setitem(sys.modules, "attention", module)  # by which the new process finds it
    cost = module.measure_apart("performer", 400)
    assert cost["milliseconds"] > 0
    features_mb = 16 * 400 * 266 * 4 / 2**20
    assert cost["memory_mb"] > 2 * features_mb, "the backward pass needs the features of keys and queries"


def test_kinds_take_turns_and_medians_are_kept(benchmark, costs):
    measured = benchmark.measure([46, 240], repeats=3)
    forward = [(kind, tokens) for tokens in (46, 240) for kind in benchmark.KINDS]
    assert costs == [*forward, *reversed(forward), *forward]
    assert measured["sdpa"][240] == {"milliseconds": 2 * 2 * 240, "memory_mb": 2 * 240}


def test_what_holds_all_pairs_of_tokens_is_left_out_where_they_are_many(benchmark, costs):
    measured = benchmark.measure([2500, 10_000], repeats=1)
    many = {kind for kind, tokens in costs if tokens == 10_000}
    assert many == {"performer", "sdpa"}
    assert all(2500 in costs_of_kind for costs_of_kind in measured.values())


def test_tables_and_picture_show_what_was_measured(benchmark, costs, tmp_path, capsys):
    output = tmp_path / "attention.json"
    benchmark.main(["--tokens", "5000", "46", "46", "--repeats", "1", "--output", str(output)])
    printed = capsys.readouterr().out
    assert "| 46 | 414.0 | 828.0 | 1,242.0 | 1,656.0 | 0.50 |" in printed
    assert "| 46 | 46.0 | 92.0 | 138.0 | 184.0 | 0.50 |" in printed
    assert "| 5,000 | 5,000.0 | 10,000.0 | - | - | 0.50 |" in printed
    assert "medians over 1 processes" in printed
    content = json.loads(output.read_text())
    assert content["measured"]["eager"] == {"46": {"milliseconds": 1656.0, "memory_mb": 184.0}}
    assert {"versions", "device", "threads", "command"} <= content["environment"].keys()
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_curves_are_the_figures(benchmark, costs):
    figure = benchmark.draw(benchmark.measure([46, 5000], repeats=1))
    time, memory = figure.axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in memory.lines}
    assert lines["performer"] == [[46, 46], [5000, 5000]]
    assert lines["eager"] == [[46, 4 * 46]]
    assert {axes.get_xscale() + axes.get_yscale() for axes in (time, memory)} == {"loglog"}
    assert (time.get_ylabel()[-4:], memory.get_ylabel()[-4:]) == ("(ms)", "(MB)")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--tokens", "46", "0"], "error: expected --tokens and --repeats of at least 1, found 0 and 3; raise them."),
        (["--repeats", "0"], "error: expected --tokens and --repeats of at least 1, found 46 and 0; raise them."),
        (["--token", "46"], "unknown argument '--token' (did you mean --tokens?); see --help_all for all of them."),
    ],
)
def test_impossible_requests_are_sentences(benchmark, argv, sentence):
    with pytest.raises((SystemExit, ValueError), match=f"^{re.escape(sentence)}$"):
        benchmark.main(argv)
