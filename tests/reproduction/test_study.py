"""The whole study on a tiny corpus: every cell of the paper's tables from run folders, and nothing trained twice."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from matplotlib.figure import Figure
from runner import ROOT, script
from tiny import CONFIGS

from hf_vivae.cli_parser import parse_flags
from hf_vivae.corpus import EMOTIONS
from hf_vivae.files import claim
from hf_vivae.models import MODELS, build_model
from hf_vivae.reproduction import plan, study
from hf_vivae.reproduction.plan import StudyArguments, plan_runs
from hf_vivae.reproduction.report2022 import RUNS
from hf_vivae.reproduction.runs import collect
from hf_vivae.reproduction.study import reproduce
from hf_vivae.training.recipes import read_deviations
from hf_vivae.training.run import train

RECIPES = ROOT / "recipes"
WITHOUT_REPORT = MODELS.keys() - RUNS.keys()


def argv(corpus: Path, output: Path, *more: str) -> list[str]:
    data = ["--data", "vivae", "--data_dir", str(corpus), "--allow_partial", "true"]
    return [*data, "--quick", "--output_dir", str(output), *more]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The recipes, with a quick study that is quicker: for tests of anything but what its models learn."""
    recipes = shutil.copytree(RECIPES, tmp_path_factory.mktemp("small") / "recipes")
    quick = {name: {"num_train_epochs": 2, "model_config": config} for name, config in CONFIGS.items()}
    del quick["logistic-regression"]["num_train_epochs"]
    for name in ("vit-base", "wav2vec2"):
        quick[name]["from_scratch"] = True
    (recipes / "reproduce_quick.yaml").write_text(yaml.safe_dump(quick))
    return recipes


@pytest.fixture(scope="module", params=["small", pytest.param("recipes", marks=pytest.mark.slow)])
def of_whole(request, small) -> Path:
    """The recipes of `whole`."""
    return small if request.param == "small" else RECIPES


def draw_one_of_a_kind(patch: pytest.MonkeyPatch) -> None:
    """Draw the first picture of each kind, such as `roc-fear` and `patches`; the others of a kind are copies of it."""
    pictures: dict[str, Path] = {}
    draw = Figure.savefig

    def save(self: Figure, file: Path, **kwargs) -> None:
        kind, _, _ = Path(file).stem.partition("-")
        if kind in pictures:
            shutil.copyfile(pictures[kind], file)
        else:
            draw(self, file, **kwargs)
            pictures[kind] = file

    patch.setattr(Figure, "savefig", save)


@pytest.fixture(scope="module")
def whole(of_whole, small, tiny_vivae, tmp_path_factory):
    """Folder of a quick study of all models, paper and as coded, with some patches, each from a process of its own."""
    output = tmp_path_factory.mktemp("study")
    patches = ["64,345"] if of_whole == small else ["32,69", "64,345"]
    with pytest.MonkeyPatch.context() as patch:
        if of_whole == small:
            draw_one_of_a_kind(patch)
        script(of_whole / "reproduce.py").main(argv(tiny_vivae, output, "--patches", *patches))
    return output


def rows(output: Path, name: str) -> list[dict[str, str]]:
    with (output / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_cell_of_table_5_is_filled_from_a_run_folder(whole):
    table = rows(whole, "table5-test-accuracy")
    assert {(row["model"], row["variant"]) for row in table} == {(m, v) for m in MODELS for v in ("paper", "as_coded")}
    for row in table:
        folder = whole / "runs" / row["variant"] / row["model"] / "seed42"
        results = json.loads((folder / "results.json").read_text())
        empty = {name for name, cell in row.items() if not cell}
        solved = {"epoch", "paper's epoch", "mean of last epochs", "sd of last epochs", "last epochs"}
        expected = solved if row["model"] == "logistic-regression" else set()
        expected |= {"sd of last epochs"} if row["last epochs"] == "1" else set()
        if row["model"] in WITHOUT_REPORT:
            expected |= {"paper's epoch", "test, paper (VIVAE)", "difference (points)"}
        assert empty == expected, row
        if row["rule"].startswith("ours"):
            assert float(row["test, ours (vivae)"]) == results["test"]["accuracy"]
            assert float(row["epoch"]) == results["selection"]["epoch"]


def test_every_cell_of_table_6_is_filled_from_a_run_folder(whole):
    table = [row for row in rows(whole, "table6") if row["AUC"].startswith(("ours", "as coded"))]
    assert {(row["model"], row["variant"]) for row in table} == {(m, v) for m in MODELS for v in ("paper", "as_coded")}
    for row in table:
        results = json.loads((whole / "runs" / row["variant"] / row["model"] / "seed42" / "results.json").read_text())
        scores = results["test"] if row["AUC"].startswith("ours") else results["reported"]
        for emotion in EMOTIONS:
            assert row[emotion] == ("" if scores["auc"][emotion] is None else str(scores["auc"][emotion]))


def test_the_report_prints_the_numbers_of_results_json(whole):
    text = (whole / "report.md").read_text()
    results = json.loads((whole / "results.json").read_text())
    assert results["corpus"]["name"] == "vivae"
    for name, table in results["tables"].items():
        assert table["caption"] in text, name
        printed = _printed(text, table["caption"])
        assert len(printed) == len(table["rows"]), name
        for cells, numbers in zip(printed, table["rows"], strict=True):
            for cell, number in zip(cells, numbers, strict=True):
                _same(cell, number)


def _printed(text: str, caption: str) -> list[list[str]]:
    lines = text.split(caption, 1)[1].strip().splitlines()
    body = lines[2 : next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body]


def _same(cell: str, number: str | float | None) -> None:
    if number is None or isinstance(number, str):
        assert cell == ("-" if number is None else number.replace("|", r"\|"))
        return
    scale = 100 if cell.endswith("%") else 1
    decimals = len(cell.rstrip("%").partition(".")[2])
    shown = float(cell.rstrip("%").replace(",", ""))
    assert abs(shown - scale * number) <= 0.501 * 10**-decimals, (cell, number)


def test_the_html_holds_the_figures_and_tables_of_the_text(whole):
    text, page = (whole / "report.md").read_text(), (whole / "report.html").read_text()
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    names = {Path(picture).stem for picture in pictures}
    assert {f"roc-{emotion}" for emotion in EMOTIONS} <= names
    trained = set(MODELS) - {"logistic-regression"}
    assert {f"curves-{variant}-{model}" for variant in ("paper", "as_coded") for model in trained} <= names
    assert {f"confusion-paper-{model}" for model in MODELS} <= names
    assert {"figure_1_lengths", "figure_2_waveform", "figure_4_mel", "figure_5_labels", "figure_6_resampled"} <= names
    assert {"by_speaker", "by_intensity", "patches"} <= names
    assert page.count("data:image/png;base64,") == len(pictures)
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_a_finished_study_trains_nothing_again(whole, of_whole, tiny_vivae, capsys, undrawn):
    before = {path: path.stat().st_mtime_ns for path in whole.glob("runs/*/*/seed*/model.safetensors")}
    assert len(before) == 2 * len(MODELS)
    assert not list(whole.rglob("checkpoint-*")), "what resumes a run is of no use once it is finished"
    script(of_whole / "reproduce.py").main(argv(tiny_vivae, whole, "--models", "mlp", "vit-base"))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    printed, progress = capsys.readouterr()
    assert "0/4" in progress
    assert "runs/paper/mlp/seed42" in progress
    assert "| vit-8-23 | as_coded |" in printed, (
        "runs of the folder that this command did not ask for are in the report"
    )


def test_patches_are_compared_by_their_tokens(whole, of_whole, small):
    """Two of another number of tokens are in order in `test_audit_tables.py` and in the slow study."""
    table = rows(whole, "patches")
    more = [] if of_whole == small else [("32 x 69", "21")]
    assert [(row["patch"], row["tokens"]) for row in table] == [("64 x 345", "3"), *more]
    assert all(float(row["training clips/s"]) > 0 < float(row["peak memory (MB)"]) for row in table)
    quick = yaml.safe_load((of_whole / "reproduce_quick.yaml").read_text())
    assert {row["epochs"] for row in table} == {f"{quick['vit-32-30']['num_train_epochs']:.1f}"}


def test_patches_are_not_measured_under_a_launcher(tiny_vivae, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="--patches measures each patch in a process of its own, found a launcher"):
        reproduce(argv(tiny_vivae, tmp_path, "--patches", "32,30"), RECIPES)


def test_a_foreign_or_incomplete_folder_is_named_and_not_mixed_in(whole, of_whole, tiny_vivae, tmp_path, undrawn):
    copy = tmp_path / "study"
    shutil.copytree(whole, copy)
    foreign = copy / "runs" / "paper" / "vit-base" / "seed42" / "run.json"
    content = json.loads(foreign.read_text())
    foreign.write_text(json.dumps(content | {"corpus": content["corpus"] | {"digest": "0" * 16}}))
    (copy / "runs" / "as_coded" / "vit-base" / "seed42" / "results.json").unlink()
    reproduce(argv(tiny_vivae, copy, "--models", "mlp"), of_whole)
    text = (copy / "report.md").read_text()
    assert "runs/paper/vit-base/seed42 is left out: expected the corpus of digest" in text
    assert "runs/as_coded/vit-base/seed42 is left out: expected a finished run, found no results.json" in text
    assert not [row for row in rows(copy, "table5-test-accuracy") if row["model"] == "vit-base"]
    with pytest.raises(ValueError, match=r"holds another run, which differs in digest .*the run runs/paper/vit-base"):
        reproduce(argv(tiny_vivae, copy, "--models", "vit-base"), of_whole)


def test_a_folder_of_another_version_is_refused_by_name(whole, of_whole, tiny_vivae, tmp_path):
    copy = tmp_path / "study"
    shutil.copytree(whole, copy)
    file = copy / "runs" / "paper" / "mlp" / "seed42" / "run.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"environment": content["environment"] | {"hf_vivae": "0.0.1"}}))
    with pytest.raises(ValueError, match=r"expected .*paper/mlp/seed42 to be of hf_vivae .*, found 0.0.1; give"):
        reproduce(argv(tiny_vivae, copy, "--models", "mlp"), of_whole)


@pytest.mark.parametrize("name", ["run.json", "results.json"])
def test_a_damaged_file_is_named(name, whole, of_whole, tiny_vivae, tmp_path):
    folder = tmp_path / "study" / "runs" / "paper" / "mlp" / "seed42"
    shutil.copytree(whole / "runs" / "paper" / "mlp" / "seed42", folder)
    (folder / name).write_text((folder / name).read_text()[:40])
    with pytest.raises(ValueError, match=rf"expected JSON in .*{name}, found a damaged file .*; remove its folder"):
        reproduce(argv(tiny_vivae, tmp_path / "study", "--models", "mlp", "--variants", "paper"), of_whole)


def test_a_quick_study_and_one_with_the_papers_epochs_do_not_mix(whole, of_whole, tiny_vivae):
    full = [part for part in argv(tiny_vivae, whole, "--models", "mlp") if part != "--quick"]
    with pytest.raises(ValueError, match=r"expected a study with the paper's epochs in .*, found a quick"):
        reproduce(full, of_whole)


def folder_corpus(root: Path, labels: dict[str, int], rates: tuple[int, ...] = (44100,)) -> list[str]:
    """Flags of a study on a folder of noise: clips of each label, without speakers."""
    rng, lines = np.random.default_rng(0), ["file,label"]
    root.mkdir()
    for place, (label, count) in enumerate(labels.items()):
        for number in range(count):
            file = f"{place}-{number}.wav"
            soundfile.write(root / file, rng.uniform(-0.5, 0.5, 20_000), rates[number % len(rates)])
            lines.append(f'{file},"{label}"')
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    return ["--data", "folder", "--data_dir", str(root), "--quick"]


def test_what_a_corpus_does_not_allow_is_left_out_by_name(small, tmp_path, monkeypatch, undrawn):
    """Without speakers none is unseen, and clips of several rates cannot go unresampled."""
    recipes = shutil.copytree(small, tmp_path / "recipes")
    for file in (recipes / "as_coded").iterdir():
        if file.stem not in ("one-split", "no-resampling"):
            file.unlink()
    # the control on pure noise, which the test of the audit trains, is a run of this study once more
    monkeypatch.setattr(plan._Planner, "noise", lambda planner: planner.run("paper/mlp/seed42", "mlp", "paper", 42))
    data = folder_corpus(tmp_path / "clips", {"cry": 20, "laugh": 20}, rates=(44100, 16000))
    models = ["--models", "mlp", "wav2vec2", "--audit", "--output_dir", str(tmp_path / "out")]
    report = reproduce([*data, *models], recipes)
    text = (tmp_path / "out" / "report.md").read_text()
    for name, reason in {
        "audit/mlp/one-split-off": "speaker-k-fold: expected a speaker for every clip",
        "audit/wav2vec2/no-resampling": "it needs clips of one sampling rate",
        "as_coded/wav2vec2/seed42": "it needs clips of one sampling rate",
    }.items():
        assert f"Left out, since these clips do not allow it: runs/{name} ({reason}" in text
        assert name in report.text
    assert "reproduced on 40 clips of another corpus than VIVAE (quick study)" in text
    assert "| difference |" not in text, "the report has no figures for other labels"


def test_labels_may_have_any_name(small, tmp_path):
    labels = ["joy/fear", "../../evil", "$_$", "macro", "<b>*star*</b> | pipe", "seed"]
    data = folder_corpus(tmp_path / "clips", dict.fromkeys(labels, 12))
    reproduce([*data, "--models", "mlp", "--variants", "paper", "--output_dir", str(tmp_path / "out")], small)
    table = rows(tmp_path / "out", "table6")
    results = json.loads((tmp_path / "out" / "runs" / "paper" / "mlp" / "seed42" / "results.json").read_text())
    assert table[0]["label macro"] == str(results["test"]["auc"]["macro"])
    assert table[0]["macro"] == str(results["test"]["macro_auc"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;*star*&lt;/b&gt; | pipe" in page
    assert len(list((tmp_path / "out" / "figures").glob("roc-*.png"))) == len(labels)


def test_a_study_of_another_corpus_in_the_folder_is_not_reported(whole, of_whole, tmp_path, undrawn):
    shutil.copytree(whole, tmp_path / "out")
    data = folder_corpus(tmp_path / "clips", {"cry": 20, "laugh": 20})
    more = ["--models", "mlp", "--variants", "paper", "--seeds", "7", "--output_dir", str(tmp_path / "out")]
    reproduce([*data, *more], of_whole)
    text = (tmp_path / "out" / "report.md").read_text()
    assert "\n1 runs on 40 folder clips" in text
    assert "runs/paper/mlp/seed42 is left out: expected the corpus of digest" in text.replace("\\", "")


def test_a_model_that_fails_stops_the_study_and_leaves_what_is_finished(
    small, tiny_vivae, tmp_path, monkeypatch, undrawn
):
    def fail_on_vit(run, args, corpus):
        if run.model == "vit-32-69":
            raise ValueError("expected memory, found none; buy some.")
        return train(run, args, corpus)

    monkeypatch.setattr(study, "train", fail_on_vit)
    command = argv(tiny_vivae, tmp_path, "--models", "mlp", "vit-32-69", "--variants", "paper")
    with pytest.raises(
        ValueError, match=r"found none; buy some \(the run runs/paper/vit-32-69/seed42 failed; finished"
    ):
        reproduce(command, small)
    assert {row["model"] for row in rows(tmp_path, "table5-test-accuracy")} == {"mlp"}
    assert "**The study stopped**: expected memory" in (tmp_path / "report.md").read_text()
    monkeypatch.undo()
    assert "vit-32-69" in reproduce(command, small).text


def test_the_audit_trains_each_deviation_and_reports_its_effect(small, tiny_vivae, tmp_path, monkeypatch, undrawn):
    monkeypatch.setattr(plan, "NOISE_EPOCHS", 1)
    report = reproduce(argv(tiny_vivae, tmp_path, "--models", "mlp", "--variants", "paper", "--audit"), small)
    concerned = {name for name, switch in read_deviations(RECIPES).items() if "mlp" in switch.models}
    table = rows(tmp_path, "audit")
    assert {row["switch"] for row in table} == concerned
    for row in table:
        assert float(row["effect (points)"]) == pytest.approx(
            100 * (float(row["accuracy on"]) - float(row["accuracy off"])), abs=1e-9
        )
        assert f"| {row['row']} | {row['switch']} | mlp |" in report.text
    assert "Control on pure noise" in report.text
    base = tmp_path / "runs" / "paper" / "mlp" / "seed42" / "model.safetensors"
    for name in ("redrawn-split", "summed-losses", "auc-from-logits"):
        assert (tmp_path / "runs" / "audit" / "mlp" / name / "model.safetensors").read_bytes() == base.read_bytes()
    assert not collect(tmp_path).left_out


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            ["--variants", "papper"],
            r"expected --variants to be one of paper, as_coded, tuned, found 'papper' \(did you",
        ),
        (["--models", "mlpp"], r"expected --models to be one of .* found 'mlpp' \(did you mean mlp\?\)"),
        (
            ["--patches", "32x30"],
            "expected --patches such as 32,30 16,69 .mel bins, frames; above 0., found '32x30'; correct",
        ),
        (["--patches", "0,0"], "expected --patches such as .*; above 0., found '0,0'; correct"),
        (["--patches", "30,30"], r"patch_size \(30, 30\) must divide the spectrogram .*; give other --patches"),
        (["--seed", "1"], r"unknown argument '--seed' \(did you mean --seeds\?\)"),
    ],
)
def test_unusable_flags_are_refused_before_anything_is_trained(flags, sentence, tiny_vivae, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        reproduce(argv(tiny_vivae, tmp_path, *flags), RECIPES)
    assert not list(tmp_path.glob("runs/*"))


def test_several_processes_share_the_batch_of_the_recipe():
    class Args:
        per_device_train_batch_size, per_device_eval_batch_size, world_size = 30, 40, 3

    study._divide_batch(None, Args)
    assert Args.per_device_train_batch_size == 10
    assert Args.per_device_eval_batch_size == 13
    Args.world_size = 4
    with pytest.raises(ValueError, match="processes that divides the 10 clips of a step of mlp, found 4; start fewer"):
        study._divide_batch(type("Run", (), {"model": "mlp"}), Args)


def test_two_studies_cannot_share_a_folder(tiny_vivae, tmp_path):
    with (
        claim(tmp_path),
        pytest.raises(ValueError, match="another process is training in"),
    ):
        reproduce(argv(tiny_vivae, tmp_path, "--models", "mlp"), RECIPES)


def test_the_plan_has_every_model_variant_and_seed_and_each_deviation_once(tmp_path):
    flags = ["--data", "synthetic", "--audit", "--seeds", "1", "2", "--variants", "paper", "as_coded", "tuned"]
    planned = plan_runs(parse_flags(StudyArguments, [*flags, "--output_dir", str(tmp_path)], ""), RECIPES)
    names = [run.name for run in planned]
    assert {f"runs/{v}/{m}/seed{s}" for v in plan.VARIANTS for m in MODELS for s in (1, 2)} <= set(names)
    audited = [Path(name).name.removesuffix("-off") for name in names if name.startswith("runs/audit")]
    assert sorted(audited) == sorted(read_deviations(RECIPES))
    tuned = [run.arguments for run in planned if run.name.startswith("runs/tuned")]
    assert {(run.select_on, run.watch_test) for run in tuned} == {("validation", True)}, (
        "some of these recipes have none"
    )
    position = {run.name: number for number, run in enumerate(planned)}
    assert all(position[run.shares] < position[run.name] for run in planned if run.shares)


def test_the_quick_networks_of_every_model_can_be_built(tmp_path):
    """The study itself is trained with them by `pytest -m slow`."""
    study = parse_flags(StudyArguments, ["--data", "synthetic", "--quick", "--output_dir", str(tmp_path)], "")
    arguments = [run.arguments for run in plan_runs(study, RECIPES)]
    built = {run.model: build_model(run.model, **run.model_config) for run in arguments}
    assert set(built) == set(MODELS)
    assert all(sum(weight.numel() for weight in model.parameters()) < 5e6 for model in built.values())
