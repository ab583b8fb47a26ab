"""Tables as Markdown and CSV, and the names of scores that all tables and figures share."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCORE_NAMES = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro F1", "macro_auc": "macro AUC"}
FROM, TO = "95 % from", "95 % to"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

Cell = str | int | float | None
Row = dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """Table with its caption, for reports, CSV and JSON.

    Args:
        name: stem of its files.
        caption: what is shown, on which clips, and why cells are empty.
        columns: heading of each column, with its unit.
        rows: cells of each row, `(rows, columns)`; None is a figure that does not exist.
        formats: format specification of the numbers of each column; None for a column of text.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    formats: tuple[str | None, ...]

    def texts(self) -> list[list[str]]:
        """Return the formatted cells, `(rows, columns)`; None as "-"."""
        return [[_format(cell, spec) for cell, spec in zip(row, self.formats, strict=True)] for row in self.rows]

    def to_markdown(self) -> str:
        """Return the caption and, below it, the table with columns of numbers flushed right."""
        rule = ["---" if spec is None else "---:" for spec in self.formats]
        lines = [map(escape_markdown, self.columns), rule, *(map(escape_markdown, line) for line in self.texts())]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{self.caption}\n\n{table}\n"

    def to_csv(self) -> str:
        """Return headings and unrounded numbers as CSV; None is an empty cell.

        Text that a spreadsheet would take for a formula begins with an apostrophe.
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(csv_cell, row) for row in (self.columns, *self.rows))
        return text.getvalue()


def _format(cell: Cell, spec: str | None) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else format(cell, spec or "")


def make_table(name: str, caption: str, columns: Mapping[str, str | None], rows: Sequence[Row]) -> Table:
    """Return a table from rows by column; a column that a row lacks is empty there.

    Args:
        name: see `Table`.
        caption: see `Table`.
        columns: headings with their format specifications, as in `Table`.
        rows: cells by heading.
    """
    cells = tuple(tuple(row.get(column) for column in columns) for row in rows)
    return Table(name, caption, tuple(columns), cells, tuple(columns.values()))


def share_range(shares: Sequence[float]) -> str:
    """Return shares as percent, such as "16.7%" where all are equal, or "15.0% to 20.0%"."""
    low, high = f"{min(shares):.1%}", f"{max(shares):.1%}"
    return low if low == high else f"{low} to {high}"


def describe_baselines(num_labels: int, majorities: Sequence[float], clips: str) -> str:
    """Return a sentence on the accuracies that need no learning.

    Args:
        num_labels: number of labels.
        majorities: accuracies of predicting the most frequent label of the training clips, one for each split.
        clips: those that the accuracies are of, such as "the test clips".
    """
    return (
        f"Chance is right for {1 / num_labels:.1%} of the clips; always predicting the most frequent label of the "
        f"training clips for {share_range(majorities)} of {clips}. "
    )


def escape_markdown(text: str) -> str:
    """Return text as one line of Markdown without markup; an underscore within a word needs no escape."""
    return re.sub(r"([\\`*\[\]<>&~#|]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))


def csv_cell(cell: Any) -> Any:
    """Return a CSV cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe.

    Args:
        cell: any value; numbers and text that is a number are returned unchanged.
    """
    if not isinstance(cell, str) or not cell.startswith(FORMULA_STARTS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
