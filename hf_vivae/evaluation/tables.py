"""Scores as text: tables of a study, and the lines that a run prints."""

import csv
import io
import math
import re
from dataclasses import dataclass
from typing import Any

from ..models import short_name
from ..text import csv_cell, printable

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


def format_results(results: dict[str, Any]) -> str:
    """The scores of a run for a terminal, chance and majority below; each line says which clips they are from.

    Args:
        results: content of a run's `results.json`.
    """
    data = results["data"]
    title = (
        f"{short_name(results['model'])} on {data} clips, {results['protocol']}, {results['task']}, "
        f"recipe {' with '.join([results['recipe'], *results['as_coded']])}"
    )
    if "folds" in results:
        title += f" ({len(results['folds'])} of {results['of_folds']} folds, pooled)"
    width = len(f"validation ({data})")
    lines = [title, f"{'':{width}}{'clips':>7}{'accuracy':>10}{'UAR':>8}{'macro F1':>10}{'macro AUC':>11}{'loss':>8}"]
    parts = [part for part in ("train", "validation", "test") if part in results]
    for part in parts:
        scores = results[part]
        auc = math.nan if scores["macro_auc"] is None else scores["macro_auc"]
        lines.append(
            f"{f'{part} ({data})':{width}}{scores['n']:7d}{scores['accuracy']:10.1%}{scores['uar']:8.1%}"
            f"{scores['macro_f1']:10.1%}{auc:11.3f}{scores['loss']:8.3f}"
        )
    labels = len(results["labels"])
    chance = f"{1 / labels:10.1%}{1 / labels:8.1%}{'':10}{0.5:11.3f}{math.log(labels):8.3f}"
    lines.append(f"{'chance':{width}}{'':7}{chance}")
    majority = results["test"]["majority"]
    line = f"{'majority':{width}}{'':7}{majority['accuracy']:10.1%}"
    # where folds say different labels, UAR and AUC over all of them need not be those of chance
    lines.append(line if majority["label"] is None else f"{line}{1 / labels:8.1%}{'':10}{0.5:11.3f}")
    lines.append(f"note: majority is always saying {_frequent(majority['label'])} on the test clips")
    lines += [f"note on {part} ({data}): {note}" for part in parts for note in results[part]["notes"]]
    lines += [f"note: {habit}" for habit in results["habits"]]
    if reported := results.get("reported"):
        lines.append(f"as the report computes it ({reported['how']}): macro AUC {reported['macro_auc']:.3f}")
    return "\n".join(map(printable, lines))


def _frequent(label: str | None) -> str:
    if label is None:
        return "the most frequent label of the fold's training clips"
    return f"{label}, the most frequent label of the training clips,"
