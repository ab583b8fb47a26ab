"""Report of an evaluation, and the writer of its tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..files import write_text
from ..reporting.report import SYNTHETIC, Code, Picture, Section, bullet_list, write_report
from ..reporting.tables import Table, escape_markdown
from ..run_folder import OTHER_FOLDS
from ..splits.protocols import PROTOCOLS
from .comparison import GroupScores
from .figures import MOST_DRAWN, MOST_PAIRS, draw_pictures

LONGEST = 100  # rows of a table in the report
HOW_TO_READ = (
    "Scores are pooled over the test clips of all folds of a protocol, so a fold without some label cannot raise "
    "them. A system is a model with its settings; its runs differ only by seed, and their scores are averaged. A "
    "table only contains systems on the same clips, task and protocol. Prefer bounds over speakers: clips of one "
    "speaker are similar, so bounds over clips are too narrow for voices that were not seen in training."
)
REPEAT_COMMAND = "python recipes/train.py --config <run folder>/run.json --output_dir <another folder>"
# heading, tables, kind of pictures
PARTS = (
    ("Scores", ("scores", "uar", "accuracy", "auc"), "scores"),
    ("Comparisons", ("differences", "mcnemar"), "differences"),
    ("By intensity", ("by-intensity",), "intensity"),
    ("By speaker", ("by-speaker",), "speaker"),
    ("By duration", ("by-duration",), "duration"),
    ("By fold", ("by-fold",), "fold"),
    ("Calibration", ("calibration",), "calibration"),
    ("Confusion", (), "confusion"),
)


def write_tables(folder: Path, tables: Iterable[Table]) -> list[str]:
    """Write each table as Markdown and as CSV.

    Args:
        folder: of the report; the files are below its folder `tables`.
        tables: with unique names.

    Returns:
        Paths of the files, relative to the folder.
    """
    contents = {}
    for table in tables:
        contents |= {f"tables/{table.name}.md": table.to_markdown(), f"tables/{table.name}.csv": table.to_csv()}
    for name, content in contents.items():
        write_text(folder / name, content)
    return list(contents)


def report_evaluation(
    folder: Path, groups: Sequence[GroupScores], tables: Mapping[str, Table], left_out: Sequence[str]
) -> list[Path]:
    """Draw the pictures and write `report.md` and `report.html`.

    Args:
        folder: of the evaluation.
        groups: in their order.
        tables: all tables by name.
        left_out: a sentence for each run folder that is not evaluated.

    Returns:
        Paths of the pictures, relative to the folder.
    """
    all_systems = [scores.system for group in groups for scores in group.systems]
    systems = [system for system in all_systems if not system.members]
    runs, folds = sum(len(system.runs) for system in systems), sum(len(system.folds) for system in systems)
    counts = f"Finished run folders: {folds}. Runs: {runs}. Systems, counted once in each group: {len(systems)}."
    if ensembles := len(all_systems) - len(systems):
        counts += f" Ensembles of them: {ensembles}."
    corpora = list(dict.fromkeys(group.group.clips.corpus for group in groups))
    about = [*([SYNTHETIC] if "synthetic" in corpora else []), counts, HOW_TO_READ]
    if left_out:
        about += ["Run folders that are left out:", bullet_list(left_out)]
    sections = [Section("What was evaluated", about), Section("At a glance", [_shorten(tables["overview"])])]
    headings = [group.group.clips.title for group in groups]
    for group, heading in zip(groups, headings, strict=True):
        if headings.count(heading) > 1:
            heading += f", corpus {group.group.clips.digest}"
        sections.append(Section(heading, _group_blocks(folder, group, tables)))
    published = [table for name, table in tables.items() if name.startswith("published")]
    if published:
        sections.append(Section("Published figures on VIVAE", published))
    sections.append(
        Section("Runs", [_shorten(tables["runs"]), "The command that repeats a run:", Code(REPEAT_COMMAND)])
    )
    number = len({system.name for system in all_systems})
    title = f"{number} {'system' if number == 1 else 'systems'} on {' and '.join(corpora)} clips"
    write_report(folder, title, sections)
    return [block.path for section in sections for block in section.blocks if isinstance(block, Picture)]


def _group_blocks(folder: Path, group: GroupScores, tables: Mapping[str, Table]) -> list[Any]:
    name = group.group.clips.slug
    pictures = draw_pictures(folder, Path("figures", name), group)
    protocol = PROTOCOLS.get(group.group.clips.protocol)
    if group.group.clips.protocol == OTHER_FOLDS:
        about = "Predictions of other programs, in the folds that their files state."
    elif protocol is None:  # of scored checkpoints
        about = "Checkpoints that were trained elsewhere, on all clips of the corpus that did not train them."
    else:
        about = escape_markdown(
            f"{protocol.idea} Source: {protocol.source}. It measures: {protocol.measures} It cannot: {protocol.cannot}"
        )
    blocks: list[Any] = [about]
    for shown, most, noun in ((group.systems, MOST_DRAWN, "systems"), (group.pairs, MOST_PAIRS, "pairs")):
        if len(shown) > most:
            blocks.append(f"Pictures show the first {most} of {len(shown)} {noun}.")
    for heading, stems, kind in PARTS:
        part = [_shorten(tables[f"{name}/{stem}"]) for stem in stems if f"{name}/{stem}" in tables]
        if kind == "differences" and group.not_compared:
            part.append(bullet_list(group.not_compared))
        if part or pictures[kind]:
            blocks += [f"### {heading}", *part, *pictures[kind]]
    return blocks


def _shorten(table: Table) -> Table:
    if len(table.rows) <= LONGEST:
        return table
    caption = f"{table.caption} The first {LONGEST} of {len(table.rows)} rows; all are in tables/{table.name}.csv."
    return replace(table, caption=caption, rows=table.rows[:LONGEST])
