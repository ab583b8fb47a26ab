"""What tables and pictures of an evaluation share: which clips they are of, stars, bounds and baselines."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from .evaluated import System
from .fold_folders import Clips
from .group_scores import GroupScores
from .resampling import Estimate
from .statistics import mean_over_seeds
from .study_rows import Row, make_table
from .tables import Table

CHANCE, MAJORITY = "chance", "majority"
BOUNDS = {f"{drawn} {end}": ".1%" for drawn in ("speakers", "clips") for end in ("from", "to")}
NAMES = ("system", "first", "second")  # columns with names of systems
MOST_NAMED = 5  # systems in a sentence
HOW_BOUNDED = (
    "Bounds are 95 % bootstrap intervals over speakers (whole speakers are drawn; for unseen voices) and over clips. "
)
# McNemar's test, that is
DEPENDENT = "It takes clips as independent, which those of one speaker are not: trust bounds over speakers more."
ENSEMBLE = (
    " The {name} gives each label the mean of its members' probabilities (Lakshminarayanan, Pritzel and Blundell "
    "2017): {members}. All weigh the same, and nothing is fitted; members that were picked by scores on these clips "
    "would make its score too high."
)


def where(clips: Clips) -> str:
    """Which clips, as the titles and captions of an evaluation say it."""
    folds = "one fold" if clips.of_folds == 1 else f"{clips.of_folds} folds"
    return f"{clips.clips} {clips.corpus} clips, {clips.task}, {clips.protocol} ({folds})"


def slug(clips: Clips) -> str:
    """Name of the folders with a group's tables and pictures."""
    return f"{clips.corpus}-{clips.task}-{clips.protocol}-{clips.of_folds}-{clips.digest[:8]}"


def mean_majority(group: GroupScores) -> dict[str, float]:
    """Scores of always saying the most frequent label of the training clips, means over the systems' splits."""
    return mean_over_seeds([scores.majority for scores in group.systems])


def baselines(group: GroupScores) -> str:
    """A sentence on the accuracies that need no learning."""
    return (
        f"Chance is right for {1 / len(group.group.labels):.1%} of the clips, always saying the most frequent label "
        f"of the training clips for {mean_majority(group)['accuracy']:.1%}. "
    )


def bounds(estimate: Estimate) -> Row:
    """The columns `BOUNDS`; empty where there are none."""
    ends = (*(estimate.speakers or (None, None)), *(estimate.clips or (None, None)))
    return dict(zip(BOUNDS, ends, strict=True))


def starred(system: System) -> str:
    """Its name, with a star where its scores owe something to a habit of publications."""
    return f"{system.name} *" if system.habits else system.name


def explain_stars(systems: Iterable[System]) -> str:
    """What the stars of these systems mean, to be added to a caption; nothing where none has one."""
    names: dict[str, list[str]] = defaultdict(list)
    for system in systems:
        for habit in system.habits:
            names[habit].append(system.name)
    return "".join(f" * {habit}: {_listed(found)}." for habit, found in names.items())


def explain_ensembles(systems: Iterable[System]) -> str:
    """What the ensembles among these systems are, to be added to a caption; nothing where there is none."""
    joined = [system for system in systems if system.members]
    return "".join(ENSEMBLE.format(name=system.name, members="; ".join(system.members)) for system in joined)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} systems"


def system_table(
    group: GroupScores, name: str, caption: str, columns: Mapping[str, str | None], rows: Sequence[Row]
) -> Table:
    """A table with systems of a group, starred where they have to be.

    Args:
        group: the group.
        name: stem of its files, which lie in the group's folder.
        caption: see `Table`; which clips the numbers are of is put before it, and what stars mean after it.
        columns: as for `make_table`.
        rows: as for `make_table`; plain names of systems stand in the columns `NAMES`.
    """
    clips, systems = group.group.clips, {scores.system.name: scores.system for scores in group.systems}
    shown = [
        {
            column: starred(systems[cell]) if column in NAMES and cell in systems else cell
            for column, cell in row.items()
        }
        for row in rows
    ]
    named = {row[column] for row in rows for column in NAMES if column in row}
    stars = explain_stars(system for name, system in systems.items() if name in named)
    caption = f"On {where(clips)}. {caption.strip()}{stars}"
    return make_table(f"{slug(clips)}/{name}", caption, columns, shown)
