"""Report of the reproduction: `report.html`, tables and `results.json`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..corpus.schema import Corpus
from ..corpus.vivae import VIVAE_CLIPS
from ..evaluation.figures import confusion_figure, roc_figure
from ..exploration.describe import explore, format_exploration
from ..exploration.figures import FIGURES
from ..files import write_json, write_text
from ..reporting.plots import curves_figure
from ..reporting.report import Code, Picture, Section, write_report
from ..reporting.tables import Table, make_table, plain
from ..validation import UserError
from .architecture import architecture_tables
from .audit import Described, audit_effects, audit_figure, audit_tables, patch_points, patches_figure, patches_table
from .runs import Collection, StudyRun, collect
from .tables import REPORT_RULE, baselines, picked_epochs, reported_run, table5, table6

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SYNTHETIC = (
    "The clips are synthetic: a small voice sang them from seeds, and nobody feels anything in them. The figures "
    "below say that the code works and what its parts do to each other; they say nothing about VIVAE or people."
)
QUICK = (
    "This is a quick study: few epochs at a higher learning rate than the report's, smaller networks, and random "
    "weights where the report has pretrained ones (`recipes/reproduce_quick.yaml`). Its scores are not comparable "
    "with the report's, even on the same clips."
)
RULES = (
    "Two rules pick the epoch that a table shows. The report's takes the best one on the test clips, which is "
    "optimistic; it is marked wherever it is used. Ours takes the best one on validation clips, which the report did "
    "not have, and predicts the test clips with its weights."
)


def report_study(
    folder: Path, corpus: Corpus, digest: str, described: Described, quick: bool, notes: Sequence[str] = ()
) -> list[Table]:
    """Write tables, figures, `results.json`, `report.md` and `report.html` of a study's finished runs; the tables.

    Args:
        folder: of the study.
        corpus: its clips.
        digest: of the corpus, which tells its runs from others.
        described: number, report's words and notebook's way of each switch of the audit.
        quick: whether the runs are those of `--quick`, which the title says.
        notes: sentences on runs that are missing.

    Raises:
        ValueError: where no run of this corpus is finished.
    """
    collection = collect(folder, digest)
    if not collection.runs:
        raise UserError(f"expected finished runs of {corpus.name} clips in {folder}, found none; train some first.")
    tables = study_tables(collection, described)
    noise = collect(folder / "noise")
    tables += [noise_table(run) for run in noise.of("audit")]
    for table in tables:
        write_text(folder / "tables" / f"{table.name}.md", table.to_markdown())
        write_text(folder / "tables" / f"{table.name}.csv", table.to_csv())
    write_json(folder / "results.json", study_results(collection, tables))
    about = [SYNTHETIC] if corpus.name == "synthetic" else []
    about += [QUICK] if quick else []
    about += [*notes, _what(collection)]
    write_report(folder, title(corpus, quick), _sections(folder, corpus, collection, tables, described, about))
    return tables


def title(corpus: Corpus, quick: bool) -> str:
    """Title of a study; it says so where the clips are synthetic or a part of VIVAE, and where the study is quick."""
    count = len(corpus.dataset)
    clips = {
        "synthetic": "synthetic clips, not VIVAE",
        "vivae": "VIVAE" if count == VIVAE_CLIPS else f"{count} of {VIVAE_CLIPS} clips of VIVAE",
        "noise": "pure noise",
        "folder": f"{count} clips of another corpus than VIVAE",
    }[corpus.name]
    return f"Emotion classifiers of Pak (2022), reproduced on {clips}{' (quick study)' if quick else ''}"


def noise_table(run: StudyRun) -> Table:
    """AUC of each label of a run on pure noise: on its own test clips, and on a split that was drawn again."""
    test, reported, last = run.results["test"], run.results["reported"], run.epochs()[-1]
    caption = (
        f"Control on pure noise with VIVAE's class counts: recipe paper of the {run.model}, its weights after epoch "
        f"{last.epoch:g} (training accuracy {last.train['accuracy']:.1%}, test accuracy {test['accuracy']:.1%}). "
        f"{baselines([run])}There is nothing to learn: an AUC far from 0.5 on the redrawn split is that of training "
        "clips."
    )
    names = [*test["auc"], "macro"]
    own, redrawn = ([*scores["auc"].values(), scores["macro_auc"]] for scores in (test, reported))
    columns = {"label": None, "AUC on its own test clips": ".3f", "AUC on a redrawn split": ".3f"}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(names, own, redrawn, strict=True)]
    return make_table("noise", caption, columns, rows)


def _sections(
    folder: Path,
    corpus: Corpus,
    collection: Collection,
    tables: Sequence[Table],
    described: Described,
    about: Sequence[str],
) -> list[Section]:
    named = {table.name: table for table in tables}

    def of(*starts: str) -> list[Table]:
        return [table for name, table in named.items() if name.startswith(starts)]

    first = _first_seed(collection)
    sections = [
        Section("What was run", about),
        Section("The clips", _clips(folder, corpus)),
        Section("Models and training (Tables 1 to 4)", of("table1", "table2", "table3", "table4")),
        Section("Accuracy and loss (Table 5)", [RULES, *of("table5")]),
        Section("Area under the ROC curve (Table 6)", [*of("table6"), *_roc(folder, collection.corpus, first)]),
        Section("Curves", _curves(folder, collection.corpus, first)),
        Section("Confusion", _confusion(folder, collection.corpus, first)),
    ]
    if audit := of("audit"):
        effects = [effect for effect in audit_effects(collection, described) if effect["accuracy"] is not None]
        figure = audit_figure(effects, f"each switch alone, {collection.corpus} clips")
        picture = _save(
            folder, "audit", figure, f"Effect of each of the notebook's habits alone on {collection.corpus} clips."
        )
        sections.append(Section("Audit: the report's text against its notebook", [*audit, picture, *of("noise")]))
    if patches := of("patches"):
        chance = 1 / len(collection.of("patches")[0].results["labels"])
        figure = patches_figure(patch_points(collection), f"spectrogram ViT, {collection.corpus} clips", chance)
        picture = _save(
            folder, "patches", figure, f"What the number of tokens costs and gives on {collection.corpus} clips."
        )
        sections.append(Section("Sequence length", [*patches, picture]))
    return [*sections, Section("How to repeat it", _how(collection))]


def _first_seed(collection: Collection) -> list[StudyRun]:
    runs = collection.of("paper", "as_coded", "tuned")
    return [run for run in runs if run.seed == min(other.seed for other in runs)]


def _what(collection: Collection) -> str:
    corpus = collection.runs[0].record["corpus"]
    said = (
        f"{len(collection.runs)} runs on {corpus['clips']} {corpus['name']} clips (digest `{corpus['digest']}`); "
        f"{len(corpus['problems'])} files were missing or left out. The figures of the report are quoted from it, are "
        "all of VIVAE, and are labelled so."
    )
    left_out = "\n".join(f"- {plain(sentence)}" for sentence in collection.left_out)
    return f"{said}\n\nLeft out:\n\n{left_out}" if left_out else said


def _clips(folder: Path, corpus: Corpus) -> list[Any]:
    numbers, pictures = explore(corpus, folder / "exploration")
    shown = [Picture(path.relative_to(folder), FIGURES[key]) for key, path in pictures.items()]
    return [Code(format_exploration(numbers)), *shown]


def _roc(folder: Path, corpus: str, runs: Sequence[StudyRun]) -> list[Picture]:
    group = runs[0].group if runs else None
    shown = [run for run in runs if run.group == group]
    predictions = {run.model: run.predictions() for run in shown}
    labels = shown[0].results["labels"] if shown else []
    return [
        _save(
            folder,
            f"roc-{quote(label, safe='')}",
            roc_figure(label, labels, predictions, f"{label} against the rest, {group}, {corpus} clips"),
            f"ROC curves of {label} on {corpus} test clips, variant {group}.",
        )
        for label in labels
    ]


def _curves(folder: Path, corpus: str, runs: Sequence[StudyRun]) -> list[Picture]:
    pictures = []
    for run in runs:
        if not run.epochs():
            continue  # a solver's solution has no curves
        select_on = run.record["run"]["select_on"]
        rules = {("test" if one.rule == REPORT_RULE else "validation"): one.epoch for one in picked_epochs(run)}
        reported = reported_run(run).test_accuracy
        figure = curves_figure(
            run.history, f"{run.model}, {run.group}, {corpus} clips", len(run.results["labels"]), select_on,
            {part: epoch for part, epoch in rules.items() if epoch is not None}, reported,
            run.results[select_on]["majority"]["accuracy"],
        )  # fmt: skip
        pictures.append(
            _save(
                folder, f"curves-{run.group}-{run.model}", figure, f"{run.model}, variant {run.group}, {corpus} clips."
            )
        )
    return pictures


def _confusion(folder: Path, corpus: str, runs: Sequence[StudyRun]) -> list[Picture]:
    return [
        _save(
            folder,
            f"confusion-{run.group}-{run.model}",
            confusion_figure(
                run.results["test"]["confusion_matrix"],
                run.results["labels"],
                f"{run.model}, {run.group}, {corpus} clips",
                run.results["test"]["majority"]["accuracy"],
            ),
            f"{run.model}, variant {run.group}, {corpus} test clips.",
        )
        for run in runs
    ]


def _save(folder: Path, name: str, figure: "Figure", caption: str) -> Picture:
    path = Path("figures", f"{name}.png")
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / path)
    return Picture(path, caption)


def _runs(collection: Collection) -> Table:
    columns = {"run": None, "epochs": "g", "seconds": ".0f", "peak memory (MB)": ".0f", "device": None}
    rows = [
        {
            "run": "/".join(str(part) for part in (run.group, run.model, run.name or f"seed{run.seed}")),
            "epochs": run.epochs()[-1].epoch if run.epochs() else None,
            "seconds": run.record["seconds"],
            "peak memory (MB)": run.record["peak_memory_mb"],
            "device": run.record["environment"]["device"],
        }
        for run in collection.runs
    ]
    caption = "All runs. A run that shares the training of another has its seconds."
    return make_table("runs", caption, columns, rows)


def _how(collection: Collection) -> list[str | Code | Table]:
    environments = [run.record["environment"] for run in collection.runs]
    commands = dict.fromkeys("python recipes/" + shlex.join(environment["command"]) for environment in environments)
    commits = dict.fromkeys(str(environment["git_commit"]) for environment in environments)
    versions = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        for environment in environments
    )
    again = "python recipes/train.py --config <folder of the run>/run.json --output_dir <another folder>"
    return [
        "The commands that made these runs (each goes on where it was interrupted), and the one that repeats a run:",
        Code("\n".join([*commands, again])),
        f"hf_vivae {environments[0]['hf_vivae']}, commit {', '.join(commits)}; Python {environments[0]['python']}; "
        f"{'; '.join(versions)}; {environments[0]['platform']}, {environments[0]['cpu_cores']} CPU cores, "
        f"{environments[0]['threads']} threads, {environments[0]['device']}.",
        _runs(collection),
    ]


SCORES = ("selection", "habits", "reported", "train", "validation", "test")


def study_tables(collection: Collection, described: Described) -> list[Table]:
    """Tables 1 to 6, then those of audit and patches where the study has such runs.

    Args:
        collection: runs of the study.
        described: as for `audit_effects`.

    Raises:
        ValueError: see `audit_effects`.
    """
    tables = [*architecture_tables(collection.runs), *table5(collection), table6(collection)]
    if collection.of("audit"):
        tables += audit_tables(collection, described)
    if collection.of("patches"):
        tables.append(patches_table(collection))
    return tables


def study_results(collection: Collection, tables: Sequence[Table]) -> dict[str, Any]:
    """The content of a study's `results.json`: scores of each run, and the tables with unrounded numbers.

    Args:
        collection: runs of the study.
        tables: made from it.
    """
    return {
        "corpus": collection.runs[0].record["corpus"] if collection.runs else None,
        "runs": [_run(run) for run in collection.runs],
        "left_out": list(collection.left_out),
        "tables": {
            table.name: {
                "caption": table.caption,
                "columns": list(table.columns),
                "rows": [list(row) for row in table.rows],
            }
            for table in tables
        },
    }


def _run(run: StudyRun) -> dict[str, Any]:
    identity = {"group": run.group, "model": run.model, "seed": run.seed, "name": run.name}
    scores = {key: run.results[key] for key in SCORES if key in run.results}
    return {**identity, **scores, "seconds": run.record["seconds"], "peak_memory_mb": run.record["peak_memory_mb"]}
