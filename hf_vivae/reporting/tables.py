"""Tables as Markdown, CSV and terminal text, and the names and formats of scores."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Numbers with the words that they need, for report, CSV and JSON alike.

    Args:
        name: stem of its files.
        caption: what is shown, on which clips, and why cells are empty.
        columns: heading of each column; units stand in it.
        rows: cells of each row, `(rows, columns)`; None is a figure that does not exist.
        formats: format specification of the numbers of each column; None shows them as they are, in a column of text.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    formats: tuple[str | None, ...]

    def texts(self) -> list[list[str]]:
        """Cells as they are shown, `(rows, columns)`; None as "-"."""
        return [[_text(cell, spec) for cell, spec in zip(row, self.formats, strict=True)] for row in self.rows]

    def to_markdown(self) -> str:
        """The caption, and the table below it with columns of numbers flushed right."""
        rule = ["---" if spec is None else "---:" for spec in self.formats]
        lines = [map(plain, self.columns), rule, *(map(plain, line) for line in self.texts())]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{self.caption}\n\n{table}\n"

    def to_csv(self) -> str:
        """The columns' headings and the numbers as they were computed; None leaves its cell empty.

        Text that a spreadsheet would take for a formula begins with an apostrophe.
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(csv_cell, row) for row in (self.columns, *self.rows))
        return text.getvalue()


def plain(text: str) -> str:
    """Text as one line of Markdown that shows it; an underscore within a word is no markup."""
    return re.sub(r"([\\`*\[\]<>&~#|]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))


def _text(cell: Cell, spec: str | None) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else format(cell, spec or "")


Row = dict[str, Cell]
FROM, TO = "95 % from", "95 % to"


def make_table(name: str, caption: str, columns: Mapping[str, str | None], rows: Sequence[Row]) -> Table:
    """A table from rows by column; a column that a row has not is empty.

    Args:
        name: see `Table`.
        caption: see `Table`.
        columns: headings with their format specifications, as in `Table`.
        rows: cells by heading.
    """
    cells = tuple(tuple(row.get(column) for column in columns) for row in rows)
    return Table(name, caption, tuple(columns), cells, tuple(columns.values()))


FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_cell(cell: Any) -> Any:
    """A cell of a CSV file that no spreadsheet takes for a formula: text that begins like one gets an apostrophe.

    Args:
        cell: numbers stay as they are, and so does text that is a number.
    """
    if not isinstance(cell, str) or not cell.startswith(FORMULA_STARTS) or _is_number(cell):
        return cell
    return f"'{cell}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
