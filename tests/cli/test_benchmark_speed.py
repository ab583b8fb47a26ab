"""The benchmark of speed: its table from given figures, its processes, each side on a few clips; no size is tested."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from inspect import signature
from pathlib import Path

import pytest
import torch
from checkpoints_of import write_checkpoint
from encoders import write_encoder
from runner import ROOT, script
from tiny import PARAMETERS

from hf_vivae import build_model

SIDES = ROOT / "benchmarks" / "sides"


@pytest.fixture
def benchmark(tiny_vivae, tmp_path, monkeypatch):
    """The script, with the voices of the tiny corpus and a cache of its own."""
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path / "cache"))
    module = script(ROOT / "benchmarks" / "speed.py")
    monkeypatch.setattr(module, "synthesize_corpus", lambda: tiny_vivae)
    monkeypatch.setattr(module, "QUICK", replace(module.QUICK, clips=48, mp3_clips=3, probed_clips=2))
    return module


@pytest.fixture
def inputs(benchmark, tmp_path):
    sizes = benchmark.Sizes(
        clips=12, epochs=2, mp3_clips=3, probed_clips=2, recording_seconds=2, contended_steps=1, finetuned_steps=1,
        batch_size=2,
    )  # fmt: skip
    return benchmark.Inputs(tmp_path, sizes)


def run_side(monkeypatch, capsys, name: str, *arguments) -> dict[str, float]:
    """Return the figures that a script of `sides/` prints, run in this process."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    script(SIDES / f"{name}.py").main()
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_table_has_ratios_bars_and_limits(benchmark):
    limits = dict(zip(benchmark.LIMITS, (162.0, 400.0, 20.0, 500.0), strict=True))
    content = {
        "environment": {"device": "cpu", "processor": "EPYC", "threads": 2, "versions": {"torch": "2.12.1"}},
        "repeats": 3,
        "limits": limits | {"seconds": 5.0},
        "rows": {
            "train": {"ours": 8.0, "baseline": 20.0, "per_second": 100.0, "peak_memory_mb": 1200.4},
            "predict": {"ours": 150.0, "baseline": 100.0, "per_second": 150.0, "peak_memory_mb": 700},
            "timeline": {"ours": 120.0, "peak_memory_mb": 700},
            "start-predict": {"ours": 3.6, "baseline": 5.4, "peak_memory_mb": 700},
            "contention": {"ours": 0.9, "baseline": 0.3, "peak_memory_mb": 700},
            "finetune-wav2vec2": {"ours": 6.0, "baseline": 4.0, "per_second": 20.0, "peak_memory_mb": 700},
        },
    }
    table = benchmark.speed_table(content)
    cells = {line[0]: line[3:] for line in table.texts()}
    assert cells == {
        "train": ["20", "8", "2.50", "ratio, at least 2.5", "yes", "25.0% of GFLOP/s in bfloat16", "1,200"],
        "predict": ["100", "150", "1.50", "ratio, at least 2", "no", "30.0% of MP3 clips/s decoded", "700"],
        "timeline": ["-", "120", "-", "ours, at least 120", "yes", "-", "700"],
        "start-predict": ["5.4", "3.6", "1.50", "ours, at most 3.5", "no", "-", "700"],
        "contention": ["0.3", "0.9", "3.00", "ratio, at most 3", "yes", "-", "700"],
        "finetune-wav2vec2": ["4", "6", "1.50", "-", "-", "5.0% of GFLOP/s in bfloat16", "700"],
    }
    assert "cpu (EPYC, 2 threads), torch 2.12.1: medians over 3 processes of each side" in table.caption
    assert "400 GFLOP/s in bfloat16, 20 GB/s of memory, 500 MP3 clips/s decoded" in table.caption


def test_the_page_describes_every_row(benchmark):
    page = (ROOT / "docs" / "speed.md").read_text()
    described = dict(re.findall(r"^\| `([\w-]+)` \|.* \| ([^|]+) \|$", page, re.MULTILINE))
    assert list(described) == list(benchmark.ROWS)
    bars = {name: f"{row.bar[2]:g}" if row.bar else "-" for name, row in benchmark.ROWS.items()}
    assert {name: bar.split()[0] for name, bar in described.items()} == bars


def test_sides_take_turns_and_medians_are_kept(benchmark, inputs, monkeypatch):
    turns = []

    def run(words, inputs, unset):
        turns.append(words[0])
        value = (9.0, 1.0, 2.0)[turns.count(words[0]) - 1] * (4 if words[0] == "plain" else 1)
        return {"seconds": 100.0, "work_seconds": value, "gigaflop": 6.0, "peak_memory_mb": value}

    monkeypatch.setattr(benchmark, "run_apart", run)
    sides = {"ours": ["fast"], "baseline": ["plain"]}
    settings = {"seconds": "work_seconds", "count": "clips", "limit": "bf16_gflops", "amount": "gigaflop"}
    row = benchmark.Row("clips", lambda inputs: sides, 1, None, **settings)
    measured = benchmark.measure_row(row, inputs, repeats=3)
    assert turns == ["fast", "plain", "plain", "fast", "fast", "plain"]
    assert (measured["ours"], measured["baseline"]) == (12 / 2.0, 12 / 8.0)
    assert measured["per_second"] == 6.0 / 2.0
    assert measured["peak_memory_mb"] == 9.0
    assert [process["work_seconds"] for process in measured["measured"]["ours"]] == [9.0, 1.0, 2.0]


def test_rows_are_written_one_by_one_and_the_time_is_announced(benchmark, tmp_path, monkeypatch, capsys):
    output = tmp_path / "speed.json"

    def run(words, inputs, unset=()):
        if "limits.py" in words[0]:
            return dict.fromkeys(benchmark.LIMITS, 10.0)
        if "timeline" in words:
            sys.exit("error: no timeline")
        return {"seconds": 2.0, "peak_memory_mb": 1.0}

    monkeypatch.setattr(benchmark, "run_apart", run)
    with pytest.raises(SystemExit, match=r"^error: no timeline$"):
        benchmark.main(["--rows", "start-predict", "timeline", "--quick", "--output", str(output)])
    content = json.loads(output.read_text())
    assert content["rows"]["start-predict"]["ours"] == 2.0
    assert content["quick"]
    assert {"versions", "threads", "processor"} <= content["environment"].keys()
    assert capsys.readouterr().out == (
        "2 rows: about 2 min on two cores, and two more for making clips. "
        "Few clips are measured: ratios are not those of docs/speed.md.\n"
    )
    benchmark.main(["--rows", "start-predict", "--quick", "--output", str(output)])
    assert " | 2 | 2 | 1.00 | ours, at most 3.5 | yes |" in capsys.readouterr().out


def test_a_process_has_the_users_environment_and_the_measured_package(benchmark, inputs, monkeypatch):
    monkeypatch.setattr(benchmark, "ENVIRONMENT", {**os.environ, "OMP_WAIT_POLICY": "active", "PYTHONPATH": "other"})
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # as the package sets it for itself
    code = "import json, os; print('text'); print(json.dumps({'variables': dict(os.environ)}))"
    process = benchmark.run_apart(["-c", code], inputs)
    assert process["variables"]["OMP_WAIT_POLICY"] == "active"
    assert process["variables"]["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "other"]
    assert process["variables"]["HF_VIVAE_CACHE"] == str(inputs.folder / "cache")
    assert process["seconds"] > 0
    assert process["peak_memory_mb"] > 1
    row = benchmark.ROWS["contention"]
    assert "OMP_WAIT_POLICY" not in benchmark.run_apart(["-c", code], inputs, row.unset)["variables"]


def test_a_side_that_fails_is_named(benchmark, inputs):
    message = "error: -c import sys; sys.exit('lost') ended with exit status 1 and this output:\nlost"
    with pytest.raises(SystemExit, match=f"^{re.escape(message)}$"):
        benchmark.run_apart(["-c", "import sys; sys.exit('lost')"], inputs)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--repeats", "0"], "error: expected --repeats of at least 1, found 0; raise it."),
        (["--row", "train"], "unknown argument '--row' (did you mean --rows?); see --help_all for all of them."),
        (["--rows", "trian"], r"expected the row to be one of .*, found 'trian' (did you mean train?)."),
    ],
)
def test_impossible_requests_are_sentences(benchmark, argv, sentence):
    with pytest.raises((SystemExit, ValueError), match=f"^{re.escape(sentence).replace(re.escape('.*'), '.*')}$"):
        benchmark.main(argv)


def test_every_row_has_commands_of_scripts_that_take_them(benchmark, inputs, monkeypatch):
    monkeypatch.setattr(benchmark, "run_apart", lambda words, inputs: {})
    encoder = write_encoder(inputs.folder / "encoder", "whisper")
    monkeypatch.setattr(benchmark.Inputs, "_encoder", lambda *arguments: encoder)
    measurements = script(SIDES / "package.py")
    clips = set()
    for name, row in benchmark.ROWS.items():
        sides = row.sides(inputs)
        assert list(sides) in (["ours"], ["ours", "baseline"]), name
        for words in sides.values():
            if words[0] == "-m":
                clips.add(Path(words[4]))
                continue
            assert Path(words[0]).is_file()
            if Path(words[0]) == SIDES / "package.py":
                signature(getattr(measurements, words[1])).bind(**json.loads(words[2]))
    assert {inputs.mp3_clips, inputs.probed_clips, inputs.recording} < clips
    assert len(list(inputs.clips.rglob("*.wav"))) == 12
    contents = [file.read_bytes() for file in inputs.mp3_clips.iterdir()]
    assert len(set(contents)) == 3, "no clip is a copy, which a cache would know"


def test_the_notebooks_network_is_that_of_the_paper(benchmark):
    notebook = script(SIDES / "notebook_loop.py")
    theirs, ours = notebook.ViT().eval(), build_model("vit-32-30").eval()
    assert sum(weight.numel() for weight in theirs.parameters()) == PARAMETERS["vit-32-30"]
    names = {
        "embeddings.projection": "patches", "embeddings.positions": "positions",
        "embeddings.class_token": "class_token", "norm": "head.0", "classifier": "head.1",
    }  # fmt: skip
    for layer in range(5):
        names |= {
            f"layers.{layer}.attention_norm": f"attentions.{layer}.0",
            f"layers.{layer}.attention.qkv": f"attentions.{layer}.1.qkv",
            f"layers.{layer}.attention.projection": f"attentions.{layer}.1.out.0",
            f"layers.{layer}.mlp_norm": f"mlps.{layer}.0",
            f"layers.{layer}.mlp.0": f"mlps.{layer}.1",
            f"layers.{layer}.mlp.3": f"mlps.{layer}.4",
        }
    weights = {}
    for name, weight in ours.state_dict().items():
        stem = next(stem for stem in names if name == stem or name.startswith(f"{stem}."))
        weights[names[stem] + name.removeprefix(stem)] = weight
    theirs.load_state_dict(weights)
    spectrograms = torch.randn(2, 1, 64, 690)
    with torch.no_grad():
        torch.testing.assert_close(theirs(spectrograms), ours(spectrograms).logits)


def test_the_baselines_measure_themselves(inputs, tmp_path, monkeypatch, capsys):
    side = monkeypatch, capsys
    assert run_side(*side, "notebook_loop", inputs.clips)["epoch_seconds"] > 0
    assert run_side(*side, "notebook_loop", inputs.clips, "--features_only")["work_seconds"] > 0
    encoder = write_encoder(tmp_path / "encoder", "group norm")
    flags = ("--batch_size", 2, "--steps", 1)
    assert run_side(*side, "library_example", encoder, inputs.clips, *flags)["step_seconds"] > 0
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    assert run_side(*side, "plain_pipeline", checkpoint, inputs.mp3_clips, "--batch_size", 2)["clips"] == 3


def test_this_package_is_measured(inputs, tmp_path):
    measure, clips = script(SIDES / "package.py"), str(inputs.clips)
    figures = measure.features(clips, str(tmp_path / "empty"))
    assert all(figures[name] > 0 for name in ("work_seconds", "read_seconds", "gigabytes"))
    assert list((tmp_path / "empty").rglob("*.arrow"))
    epoch = measure.train(clips, str(tmp_path / "train"), epochs=2)
    assert epoch["epoch_seconds"] > 0
    # 47 tokens: weights but positions, and both products of attention; three times as much when trained
    rest = 1024 * 200 + 2 * 47 * 1024 + 2 * 200 * 300  # of a block, for each token but its projection to three
    last = 47 * 200 * 2048 + 200 * 1024 + rest  # for the class token alone
    forward = 2 * (46 * 960 * 200 + 4 * 47 * (200 * 3072 + rest) + last + 200 * 6) / 1e9
    assert epoch["gigaflop"] == pytest.approx(10 * 3 * forward + 2 * forward, rel=0.02)
    assert measure.step(clips, str(tmp_path / "step"), steps=1, busy=True)["step_seconds"] > 0
    encoder = write_encoder(tmp_path / "encoder", "group norm")
    figures = measure.finetune(clips, str(tmp_path / "finetune"), str(encoder), steps=1, batch_size=2)
    assert all(figures[name] > 0 for name in ("step_seconds", "gigaflop"))


RECIPE = """
import sys, time, types
time.sleep(0.1)
module = sys.modules["transformers.trainer_callback"] = types.ModuleType("trainer_callback")
module.CallbackHandler = type("CallbackHandler", (), {"on_step_end": lambda *arguments: None})
time.sleep(0.2)
assert sys.argv[1:] == ["--model", "mlp"]
if STEPS:
    module.CallbackHandler().on_step_end(None, None)
"""


@pytest.mark.parametrize(("steps", "code"), [(1, 0), (0, 1)])
def test_a_recipe_ends_at_its_first_step(tmp_path, steps, code):
    recipe = tmp_path / "train.py"
    recipe.write_text(RECIPE.replace("STEPS", str(steps)), encoding="utf-8")
    arguments = json.dumps({"script": str(recipe), "flags": ["--model", "mlp"]})
    words = [sys.executable, SIDES / "package.py", "first_step", arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert (done.stdout, done.stderr) == (
        ('{"steps": 1}\n', "") if steps else ("", "error: the recipe ended before its first step.\n")
    )


def test_limits_are_measured(inputs, monkeypatch, capsys):
    module = script(SIDES / "limits.py")
    for name, value in {"WIDTH": 16, "VALUES": 100, "SECONDS": 0.0}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sys, "argv", ["limits", str(next(inputs.mp3_clips.iterdir()))])
    module.main()
    limits = json.loads(capsys.readouterr().out)
    assert all(value > 0 for value in limits.values())
    assert list(limits) == list(script(ROOT / "benchmarks" / "speed.py").LIMITS)


@pytest.mark.slow
def test_rows_are_measured_from_start_to_end(benchmark, tmp_path, capsys):
    output = tmp_path / "speed.json"
    rows = ["features", "start-predict", "start-train", "contention"]
    benchmark.main(["--quick", "--repeats", "1", "--output", str(output), "--rows", *rows])
    content = json.loads(output.read_text())
    assert list(content["rows"]) == rows
    assert all(content["limits"][name] > 0 for name in benchmark.LIMITS)
    assert [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:] == [
        f"| {row}" for row in rows
    ]
