"""Report of the reproduction: `report.html`, tables and `results.json`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..corpus.schema import Corpus
from ..corpus.vivae import VIVAE_CLIPS
from ..evaluation.figures import confusion_figure, roc_figure
from ..evaluation.report import REPEAT_COMMAND, write_tables
from ..evaluation.runs import read_part
from ..exploration.describe import explore, format_exploration
from ..exploration.figures import FIGURES
from ..files import write_json
from ..reporting.plots import curves_figure
from ..reporting.report import SYNTHETIC, Code, Picture, Section, bullet_list, save_picture, write_report
from ..reporting.tables import Table, make_table
from ..validation import UserError
from .architecture import architecture_tables
from .audit import Described, audit_effects, audit_figure, audit_tables, patch_points, patches_figure, patches_table
from .runs import VARIANTS, Collection, StudyRun, collect
from .tables import PAPER_RULE, baselines, reported_run, select_epochs, table5, table6

if TYPE_CHECKING:
    from matplotlib.figure import Figure


QUICK = (
    "This is a quick study: few epochs at a higher learning rate than the paper's, smaller networks, and random "
    "weights where the paper has pretrained ones (`recipes/reproduce_quick.yaml`). Its scores are not comparable "
    "with the paper's, even on the same clips."
)
RULES = (
    "Two rules select the epoch in a table. The paper's takes the best one on the test clips, which is optimistic; it "
    "is marked wherever it is used. Ours takes the best one on validation clips, which the paper did not have, and "
    "predicts the test clips with its weights."
)
SCORES = ("selection", "habits", "reported", "train", "validation", "test")


def report_study(
    folder: Path, corpus: Corpus, digest: str, described: Described, quick: bool, notes: Sequence[str] = ()
) -> list[Table]:
    """Write tables, figures, `results.json`, `report.md` and `report.html` of a study, and return the tables.

    Args:
        folder: of the study.
        corpus: its clips.
        digest: of the corpus; runs with another one are left out.
        described: by deviation of the audit its number, the paper's text and the practice of its notebook.
        quick: true if the runs are those of `--quick`, which the title then states.
        notes: sentences on runs that are missing.

    Raises:
        UserError: no run of this corpus is finished.
    """
    collection = collect(folder, digest)
    if not collection.runs:
        raise UserError(f"expected finished runs of {corpus.name} clips in {folder}, found none; train some first.")
    tables = study_tables(collection, described)
    tables += [noise_table(run) for run in collect(folder / "noise").of("audit")]
    write_tables(folder, tables)
    write_json(folder / "results.json", study_results(collection, tables))
    record = collection.runs[0].record["corpus"]
    about = [SYNTHETIC] if corpus.name == "synthetic" else []
    about += [QUICK] if quick else []
    about += [
        *notes,
        f"{len(collection.runs)} runs on {record['clips']} {corpus.title} (digest `{record['digest']}`); "
        f"{len(record['problems'])} files were missing or left out. Figures of the paper are quoted from it, are all "
        "of VIVAE, and are labelled so.",
    ]
    if collection.left_out:
        about += ["Left out:", bullet_list(collection.left_out)]
    sections = [Section("What was run", about), *_sections(folder, corpus, collection, tables, described)]
    write_report(folder, study_title(corpus, quick), sections)
    return tables


def study_title(corpus: Corpus, quick: bool) -> str:
    """Return the title of a study, which states if the clips are synthetic or a part of VIVAE, or the study quick."""
    count = len(corpus.dataset)
    clips = {
        "synthetic": "synthetic clips, not VIVAE",
        "vivae": "VIVAE" if count == VIVAE_CLIPS else f"{count} of {VIVAE_CLIPS} clips of VIVAE",
        "noise": "pure noise",
        "emogator": f"{count} clips of EmoGator, not VIVAE",
        "folder": f"{count} clips of another corpus than VIVAE",
        "segments": f"{count} segments of recordings, not VIVAE",
    }.get(corpus.name, f"{count} clips of {corpus.name}, not VIVAE")
    by_map = f" (labels by {corpus.label_map.name})" if corpus.label_map else ""
    return f"Emotion classifiers of Pak (2022), reproduced on {clips}{by_map}{' (quick study)' if quick else ''}"


def noise_table(run: StudyRun) -> Table:
    """Return the AUC of each label of a run on pure noise: on its test clips, and on a split that is drawn again."""
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
    folder: Path, corpus: Corpus, collection: Collection, tables: Sequence[Table], described: Described
) -> list[Section]:
    def of(*starts: str) -> list[Table]:
        return [table for table in tables if table.name.startswith(starts)]

    numbers, pictures = explore(corpus, folder / "exploration")
    exploration = [Picture(path.relative_to(folder), FIGURES[key]) for key, path in pictures.items()]
    name = collection.corpus
    runs = collection.of(*VARIANTS)
    first_seed = [run for run in runs if run.seed == min(other.seed for other in runs)]
    sections = [
        Section("The clips", [Code(format_exploration(numbers)), *exploration]),
        Section("Models and training (Tables 1 to 4)", of("table1", "table2", "table3", "table4")),
        Section("Accuracy and loss (Table 5)", [RULES, *of("table5")]),
        Section("Area under the ROC curve (Table 6)", [*of("table6"), *_roc(folder, name, first_seed)]),
        Section("Curves", [_curves(folder, name, run) for run in first_seed if run.epochs()]),  # a solver has none
        Section("Confusion", [_confusion(folder, name, run) for run in first_seed]),
    ]
    if audit := of("audit"):
        effects = [effect for effect in audit_effects(collection, described) if effect["accuracy"] is not None]
        figure = audit_figure(effects, f"each deviation alone, {name} clips")
        picture = _save(folder, "audit", figure, f"Effect of each deviation of the notebook alone on {name} clips.")
        sections.append(Section("Audit: the paper's text against its notebook", [*audit, picture, *of("noise")]))
    if patches := of("patches"):
        chance = 1 / len(collection.of("patches")[0].results["labels"])
        figure = patches_figure(patch_points(collection), f"spectrogram ViT, {name} clips", chance)
        picture = _save(folder, "patches", figure, f"Cost and scores by the number of tokens on {name} clips.")
        sections.append(Section("Sequence length", [*patches, picture]))
    return [*sections, Section("How to repeat it", _how_to_repeat(collection))]


def _roc(folder: Path, corpus: str, runs: Sequence[StudyRun]) -> list[Picture]:
    if not runs:
        return []
    group, labels = runs[0].group, runs[0].results["labels"]
    predictions = {run.model: read_part([run.folder], "test") for run in runs if run.group == group}
    pictures = []
    for label in labels:
        figure = roc_figure(label, labels, predictions, f"{label} against the rest, {group}, {corpus} clips")
        caption = f"ROC curves of {label} on {corpus} test clips, variant {group}."
        pictures.append(_save(folder, f"roc-{quote(label, safe='')}", figure, caption))
    return pictures


def _curves(folder: Path, corpus: str, run: StudyRun) -> Picture:
    select_on = run.record["run"]["select_on"]
    epochs = {
        "test" if selected.rule == PAPER_RULE else "validation": selected.epoch for selected in select_epochs(run)
    }
    figure = curves_figure(
        run.history,
        f"{run.model}, {run.group}, {corpus} clips",
        len(run.results["labels"]),
        select_on,
        {part: epoch for part, epoch in epochs.items() if epoch is not None},
        reported_run(run).test_accuracy,
        run.results[select_on]["majority"]["accuracy"],
    )
    caption = f"{run.model}, variant {run.group}, {corpus} clips."
    return _save(folder, f"curves-{run.group}-{run.model}", figure, caption)


def _confusion(folder: Path, corpus: str, run: StudyRun) -> Picture:
    test = run.results["test"]
    figure = confusion_figure(
        test["confusion_matrix"],
        run.results["labels"],
        f"{run.model}, {run.group}, {corpus} clips",
        test["majority"]["accuracy"],
    )
    caption = f"{run.model}, variant {run.group}, {corpus} test clips."
    return _save(folder, f"confusion-{run.group}-{run.model}", figure, caption)


def _save(folder: Path, name: str, figure: "Figure", caption: str) -> Picture:
    return save_picture(folder, Path("figures", f"{name}.png"), figure, caption)


def _how_to_repeat(collection: Collection) -> list[str | Code | Table]:
    environments = [run.record["environment"] for run in collection.runs]
    commands = dict.fromkeys("python recipes/" + shlex.join(environment["command"]) for environment in environments)
    commits = dict.fromkeys(str(environment["git_commit"]) for environment in environments)
    versions = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        for environment in environments
    )
    first = environments[0]
    columns = {"run": None, "epochs": "g", "seconds": ".0f", "peak memory (MB)": ".0f", "device": None}
    rows = [
        {
            "run": "/".join((run.group, run.model, run.name or f"seed{run.seed}")),
            "epochs": run.epochs()[-1].epoch if run.epochs() else None,
            "seconds": run.record["seconds"],
            "peak memory (MB)": run.record["peak_memory_mb"],
            "device": run.record["environment"]["device"],
        }
        for run in collection.runs
    ]
    caption = "All runs. A run that shares the training of another has the seconds of that run."
    return [
        "The commands of these runs (each continues where it was interrupted), and the one that repeats a run:",
        Code("\n".join([*commands, REPEAT_COMMAND])),
        f"hf_vivae {first['hf_vivae']}, commit {', '.join(commits)}; Python {first['python']}; {'; '.join(versions)}; "
        f"{first['platform']}, {first['cpu_cores']} CPU cores, {first['threads']} threads, {first['device']}.",
        make_table("runs", caption, columns, rows),
    ]


def study_tables(collection: Collection, described: Described) -> list[Table]:
    """Return Tables 1 to 6, then those of audit and patches where the study has such runs.

    Args:
        collection: runs of the study.
        described: as for `audit_effects`.

    Raises:
        UserError: see `audit_effects`.
    """
    tables = [*architecture_tables(collection.runs), *table5(collection), table6(collection)]
    if collection.of("audit"):
        tables += audit_tables(collection, described)
    if collection.of("patches"):
        tables.append(patches_table(collection))
    return tables


def study_results(collection: Collection, tables: Sequence[Table]) -> dict[str, Any]:
    """Return the content of a study's `results.json`: scores of each run, and the tables with unrounded numbers.

    Args:
        collection: runs of the study.
        tables: made from it.
    """
    runs = []
    for run in collection.runs:
        identity = {"group": run.group, "model": run.model, "seed": run.seed, "name": run.name}
        scores = {key: run.results[key] for key in SCORES if key in run.results}
        cost = {"seconds": run.record["seconds"], "peak_memory_mb": run.record["peak_memory_mb"]}
        runs.append({**identity, **scores, **cost})
    return {
        "corpus": collection.runs[0].record["corpus"] if collection.runs else None,
        "runs": runs,
        "left_out": list(collection.left_out),
        "tables": {
            table.name: {"caption": table.caption, "columns": table.columns, "rows": table.rows} for table in tables
        },
    }
