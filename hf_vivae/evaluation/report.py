"""The report of an evaluation: what was found, each group of like clips, and figures that others published."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..reporting.report import Code, Picture, Section, write_report
from ..reporting.tables import Table, plain
from ..splits.protocols import PROTOCOLS
from .comparison import GroupScores
from .figures import MOST_DRAWN, MOST_PAIRS, draw_pictures
from .tables import slug, where

LONGEST = 100  # rows of a table in the report
SYNTHETIC = (
    "Synthetic clips were sung from seeds by a small voice, and nobody feels anything in them. Their scores say that "
    "the code works; they say nothing about VIVAE or people."
)
HOW_TO_READ = (
    "Scores are pooled: they are of the test clips of all folds of a protocol together, so that a fold without some "
    "label cannot raise them. A system is a model with its settings; its runs differ only by seed, and their scores "
    "are averaged. Only systems on the same clips, task and protocol stand in one table. Prefer bounds over speakers: "
    "clips of one speaker are alike, so bounds that take each clip on its own are too narrow for voices that were "
    "never heard."
)
REPEAT = "python recipes/train.py --config <run folder>/run.json --output_dir <another folder>"
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


def report_evaluation(
    folder: Path, groups: Sequence[GroupScores], tables: Mapping[str, Table], left_out: Sequence[str]
) -> list[Path]:
    """Draw the pictures, and write `report.md` and `report.html`; the pictures' paths, relative to the folder.

    Args:
        folder: of the evaluation.
        groups: in their order.
        tables: all tables by name.
        left_out: a sentence for each run folder that is not evaluated.
    """
    sections = [Section("What was evaluated", _about(groups, left_out))]
    sections.append(Section("At a glance", [_shortened(tables["overview"])]))
    sections += [Section(_heading(group, groups), _blocks(folder, group, tables)) for group in groups]
    published = [table for name, table in tables.items() if name.startswith("published")]
    if published:
        sections.append(Section("What others published on VIVAE", published))
    sections.append(Section("Runs", [_shortened(tables["runs"]), "The command that repeats a run:", Code(REPEAT)]))
    write_report(folder, title(groups), sections)
    return [block.path for section in sections for block in section.blocks if isinstance(block, Picture)]


def title(groups: Sequence[GroupScores]) -> str:
    """How many systems were scored on which clips."""
    systems = len({scores.system.name for group in groups for scores in group.systems})
    corpora = " and ".join(dict.fromkeys(group.group.clips.corpus for group in groups))
    return f"{systems} {'system' if systems == 1 else 'systems'} on {corpora} clips"


def _about(groups: Sequence[GroupScores], left_out: Sequence[str]) -> list[str]:
    about = [SYNTHETIC] if any(group.group.clips.corpus == "synthetic" for group in groups) else []
    about += [_counted(groups), HOW_TO_READ]
    if left_out:
        about += ["Run folders that are left out:", _listed(left_out)]
    return about


def _counted(groups: Sequence[GroupScores]) -> str:
    everything = [scores.system for group in groups for scores in group.systems]
    systems = [system for system in everything if not system.members]
    runs, folds = sum(len(system.runs) for system in systems), sum(len(system.folds) for system in systems)
    said = f"Finished run folders: {folds}. Runs: {runs}. Systems, counted once in each group: {len(systems)}."
    ensembles = len(everything) - len(systems)
    return f"{said} Ensembles of them: {ensembles}." if ensembles else said


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {plain(sentence)}" for sentence in sentences)


def _heading(group: GroupScores, groups: Sequence[GroupScores]) -> str:
    """Which clips; with the digest of their corpus where another group has the same words."""
    said = where(group.group.clips)
    alike = sum(where(other.group.clips) == said for other in groups)
    return said if alike == 1 else f"{said}, corpus {group.group.clips.digest}"


def _blocks(folder: Path, group: GroupScores, tables: Mapping[str, Table]) -> list[Any]:
    name = slug(group.group.clips)
    pictures = draw_pictures(folder, Path("figures", name), group)
    blocks: list[Any] = [_what_it_measures(group.group.clips.protocol)]
    for many, most, said in ((group.systems, MOST_DRAWN, "systems"), (group.pairs, MOST_PAIRS, "pairs")):
        if len(many) > most:
            blocks.append(f"Pictures show the first {most} of {len(many)} {said}.")
    for heading, stems, kind in PARTS:
        found = [_shortened(tables[f"{name}/{stem}"]) for stem in stems if f"{name}/{stem}" in tables]
        if kind == "differences" and group.not_compared:
            found.append(_listed(group.not_compared))
        if found or pictures[kind]:
            blocks += [f"### {heading}", *found, *pictures[kind]]
    return blocks


def _what_it_measures(protocol: str) -> str:
    header = PROTOCOLS.get(protocol)
    if header is None:  # of hf_vivae.rescoring
        return "Checkpoints that were trained elsewhere, on all clips of the corpus that they have not learnt from."
    sentences = f"{header.idea} Source: {header.source}. It measures: {header.measures} It cannot: {header.cannot}"
    return plain(sentences)


def _shortened(table: Table) -> Table:
    if len(table.rows) <= LONGEST:
        return table
    said = f"{table.caption} The first {LONGEST} of {len(table.rows)} rows; all are in tables/{table.name}.csv."
    return replace(table, caption=said, rows=table.rows[:LONGEST])
