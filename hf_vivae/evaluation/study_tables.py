"""All tables of a study, and their numbers for `results.json`."""

from collections.abc import Sequence
from typing import Any

from .architecture import architecture_tables
from .audit_tables import Described, audit_tables, patches_table
from .collection import Collection, StudyRun
from .table5 import table5
from .table6 import table6
from .tables import Table

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
