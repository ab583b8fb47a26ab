"""Figures of the cost of training: all are there and positive, for models that take no time; no size is tested."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from runner import ROOT, script
from tiny import CONFIGS

from hf_vivae.models import MODELS

NAMES = ("mlp", "logistic-regression", "wav2vec2")
FIGURES = (
    "parameters", "first_step_seconds", "step_seconds", "train_clips_per_second", "eval_clips_per_second",
    "checkpoint_seconds", "peak_memory_mb", "epochs", "training_seconds_extrapolated",
)  # fmt: skip


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A folder with recipes `paper` of tiny models, and the script in its place next to it."""
    folder = tmp_path / "recipes"
    (folder / "paper").mkdir(parents=True)
    (tmp_path / "benchmarks").mkdir()
    shutil.copy(ROOT / "benchmarks" / "training.py", tmp_path / "benchmarks")
    for name in NAMES:
        values = {
            "model_config": CONFIGS[name],
            "num_train_epochs": 3,
            "per_device_train_batch_size": 10,
            "per_device_eval_batch_size": 10,
        }
        (folder / "paper" / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return folder


@pytest.fixture
def benchmark(recipes: Path):
    return script(recipes.parent / "benchmarks" / "training.py")


@pytest.mark.slow
def test_a_model_is_measured_in_a_process_of_its_own(benchmark, tmp_path, capsys):
    output = tmp_path / "figures.json"
    benchmark.main(["--models", "mlp", "--steps", "2", "--repeats", "1", "--output", str(output)])
    content = json.loads(output.read_text())
    (row,) = content["models"]
    assert row["model"] == "mlp"
    assert all(row[figure] > 0 for figure in FIGURES)
    assert content["training_seconds_extrapolated"] == row["training_seconds_extrapolated"]
    assert content["measured"] == {"mlp": [{figure: row[figure] for figure in FIGURES}]}
    assert {"versions", "device", "threads"} <= content["environment"].keys()
    assert f"| mlp | {row['parameters']:,.0f} | {row['first_step_seconds']:.2f} |" in capsys.readouterr().out


def test_an_extrapolated_training_is_the_recipes(benchmark):
    """Three epochs: 79 steps of 10 of the 782 training clips, the other 303 scored, a checkpoint."""
    figures = benchmark.measure_model("mlp", steps=1)
    epoch = 79 * figures["step_seconds"] + 303 / figures["eval_clips_per_second"] + figures["checkpoint_seconds"]
    assert figures["training_seconds_extrapolated"] == pytest.approx(3 * epoch)
    assert figures["train_clips_per_second"] == pytest.approx(10 / figures["step_seconds"])
    assert figures["epochs"] == 3


def test_a_solvers_step_is_an_iteration_over_all_training_clips(benchmark):
    figures = benchmark.measure_model("logistic-regression", steps=1)
    assert figures["train_clips_per_second"] == pytest.approx(782 / figures["step_seconds"])
    whole = 100 * figures["step_seconds"] + 303 / figures["eval_clips_per_second"]
    assert figures["training_seconds_extrapolated"] == pytest.approx(whole)
    assert (figures["epochs"], figures["checkpoint_seconds"]) == (1, 0)


def test_a_pretrained_model_is_measured_without_its_weights(benchmark):
    figures = benchmark.measure_model("wav2vec2", steps=1)
    assert tuple(figures) == FIGURES
    assert all(figure > 0 for figure in figures.values())


def test_the_table_has_the_papers_times_next_to_ours(benchmark):
    row = dict.fromkeys(FIGURES, 2.0)
    models = [{"model": name, **row} for name in NAMES]
    table = benchmark.models_table(
        {"steps": 5, "repeats": 3, "models": models, "training_seconds_extrapolated": 6.0}
    ).to_markdown()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    assert all(len(line) == len(FIGURES) + 2 for line in lines)
    assert [line[0] for line in lines] == ["model", "---", *NAMES, "all of these"]
    assert [line[-2:] for line in lines[2:]] == [["2", "100"], ["2", "-"], ["2", "14,400"], ["6", "14,500"]]
    assert "medians over 3 processes of 5 steps each, on noise clips" in table


def test_models_take_turns_and_medians_are_kept(benchmark, monkeypatch):
    turns = []

    def measure(name: str, steps: int) -> dict[str, float]:
        turns.append((name, steps))
        return dict.fromkeys(benchmark.FIGURES, (1.0, 5.0, 9.0)[sum(name == other for other, _ in turns) - 1])

    monkeypatch.setattr(benchmark, "measure_apart", measure)
    arguments = benchmark.BenchmarkArguments(models=["mlp", "wav2vec2"], steps=7)
    content = benchmark.measure_models(arguments)
    assert turns == [(name, 7) for name in ("mlp", "wav2vec2", "wav2vec2", "mlp", "mlp", "wav2vec2")]
    assert [row["step_seconds"] for row in content["models"]] == [5.0, 5.0]
    assert content["training_seconds_extrapolated"] == 10.0
    assert [figures["epochs"] for figures in content["measured"]["mlp"]] == [1.0, 5.0, 9.0]


def test_a_model_that_fails_is_named(benchmark, tmp_path, monkeypatch):
    failing = tmp_path / "failing.py"
    failing.write_text("import sys; print('lost', file=sys.stderr); sys.exit(3)", encoding="utf-8")
    monkeypatch.setattr(benchmark, "__file__", str(failing))
    message = "error: measuring wav2vec2 ended with exit status 3 and this output:\nlost"
    with pytest.raises(SystemExit, match=f"^{re.escape(message)}$"):
        benchmark.main(["--models", "wav2vec2", "--output", str(tmp_path / "figures.json")])
    assert not (tmp_path / "figures.json").exists()


STUDY = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--output_dir") + 1])
for run, record in {
    "paper/mlp/seed0": {"peak_memory_mb": 10},
    "paper/mlp/seed1": {},
    "paper/mlp/seed1/1-of-5": {"peak_memory_mb": 12},
    "paper/mlp/seed1/2-of-5": {"peak_memory_mb": 11},
}.items():
    (folder / "runs" / run).mkdir(parents=True)
    (folder / "runs" / run / "results.json").write_text("{}")
    (folder / "runs" / run / "run.json").write_text(json.dumps(record))
(folder / "runs" / "half").mkdir()
Path(__file__).with_name("flags.json").write_text(json.dumps(sys.argv[1:]))
"""


@pytest.mark.parametrize(("kind", "quick"), [("quick", ["--quick"]), ("full", [])])
def test_a_study_is_run_to_its_end_and_counted(benchmark, recipes, tmp_path, monkeypatch, capsys, kind, quick):
    monkeypatch.chdir(tmp_path)
    (recipes / "reproduce.py").write_text(STUDY, encoding="utf-8")
    benchmark.main(["--study", kind])
    flags = json.loads((recipes / "flags.json").read_text())
    folder = flags[flags.index("--output_dir") + 1]
    assert flags == ["--data", "synthetic", "--audit", "--output_dir", folder, *quick]
    assert not Path(folder).exists()
    content = json.loads(Path("runs", f"benchmark-{kind}.json").read_text())
    assert (content["study"], content["data"], content["exit_status"]) == (kind, "synthetic", 0)
    assert (content["finished_runs"], content["peak_memory_mb_of_a_run"]) == (2, 12)
    assert content["seconds"] > 0
    assert content["peak_memory_mb_of_a_process"] > 0
    assert f"runs/benchmark-{kind}.json" in capsys.readouterr().out


def test_a_study_that_fails_is_an_error_with_its_figures_kept(benchmark, recipes, tmp_path):
    (recipes / "reproduce.py").write_text(STUDY + "sys.exit(3)", encoding="utf-8")
    output = tmp_path / "figures.json"
    message = "error: the study ended with exit status 3; its errors are above."
    with pytest.raises(SystemExit, match=f"^{re.escape(message)}$"):
        benchmark.main(["--study", "quick", "--output", str(output)])
    assert json.loads(output.read_text())["finished_runs"] == 2


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--steps", "0"], "error: expected --steps and --repeats of at least 1, found 0 and 3; raise them."),
        (
            ["--study", "quick", "--models", "mlp"],
            "error: --study runs all models of the study, found --models too; leave out one of them.",
        ),
        (["--model", "mlp"], "unknown argument '--model' (did you mean --models?); see --help_all for all of them."),
        (
            ["--models", "mlp", "mpl"],
            f"expected the model to be one of {', '.join(MODELS)}, found 'mpl' (did you mean mlp?).",
        ),
    ],
)
def test_impossible_requests_are_sentences(benchmark, argv, sentence):
    with pytest.raises((SystemExit, ValueError), match=f"^{re.escape(sentence)}$"):
        benchmark.main(argv)
