"""Table, heat map and report of a cross-corpus evaluation."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import make_folder, write_json
from ..reporting.plots import BLACK, GREY, LIGHT_GREY, blank_figure, wrap_text
from ..reporting.report import SYNTHETIC, Section, bullet_list, save_picture, write_report
from ..reporting.tables import Table, make_table
from .cross import Cell, Column, CrossEvaluation, Row
from .report import write_tables
from .tables import BOUNDS, HOW_BOUNDED, bounds

if TYPE_CHECKING:
    from matplotlib.figure import Figure


HOW_TO_READ = (
    "A row is a system and the corpus that trained it, a column a corpus. On its own corpus, a system is scored by "
    "the test clips of its run. On any other corpus, a clip gets the mean probabilities of the models of all folds "
    "that have not learnt from it: clips whose sound trained a model, or selected its epoch, are left out. Scores of "
    "several seeds are averaged. A system is scored on a corpus if it has all labels of the corpus, by their names."
)
CAPTION = (
    "UAR and accuracy of each system on each corpus. {bounded}Own test clips are those that the system's own run "
    "tested. Labels are those of the corpus, of which the system may have more; chance guesses each label of the "
    'system equally often. "-": no score, for the reason of the last column, or no bounds, as speakers are unknown or '
    "fewer than 5.{stars}"
)
LABEL_WIDTH, COLUMN_WIDTH, REASON_WIDTH = 36, 20, 19  # characters of a line
LINE_HEIGHT, CELL_WIDTH, CELL_HEIGHT = 0.17, 1.75, 0.75  # inches


def write_cross_report(folder: Path, cross: CrossEvaluation) -> None:
    """Write the table, the heat map, `report.md` and `report.html`, and `results.json`.

    Args:
        folder: of the report; files of an earlier one are replaced.
        cross: all scores.
    """
    make_folder(folder)
    table = cross_table(cross)
    write_tables(folder, [table])
    starred = _explain_stars(cross)
    caption = (
        "UAR of each system (row) on each corpus (column), with its 95 % interval over speakers, or over clips where "
        "speakers are unknown, and the number of clips. A frame marks a system's own corpus: its own test clips."
    )
    picture = save_picture(folder, Path("figures", "cross.png"), cross_figure(cross), caption + starred)
    titles = [*(row.trained_on for row in cross.rows), *(column.title for column in cross.columns)]
    about = [*([SYNTHETIC] if any(title.startswith("synthetic") for title in titles) else []), HOW_TO_READ]
    if cross.left_out:
        about += ["Run folders that are left out:", bullet_list(cross.left_out)]
    sections = [Section("What was evaluated", about), Section("UAR", [picture]), Section("Scores", [table])]
    write_report(folder, f"Cross-corpus evaluation: {', '.join(column.title for column in cross.columns)}", sections)
    cells = [
        {"system": row.name, "trained_on": row.trained_on, "corpus": column.title, **asdict(cell)}
        for row, column, cell in _entries(cross)
    ]
    write_json(folder / "results.json", {"cross": cells, "left_out": list(cross.left_out)})


def _entries(cross: CrossEvaluation) -> Iterator[tuple[Row, Column, Cell]]:
    """Yield the cells with their rows and columns."""
    for row, of_row in zip(cross.rows, cross.cells, strict=True):
        for column, cell in zip(cross.columns, of_row, strict=True):
            yield row, column, cell


def _explain_stars(cross: CrossEvaluation) -> str:
    """Return the caveats of all cells, as sentences to add to a caption; empty where there is none."""
    names: dict[str, list[str]] = {}
    for row, _, cell in _entries(cross):
        for caveat in cell.caveats:
            names.setdefault(caveat, []).append(row.name)
    return "".join(f" * {caveat}: {', '.join(dict.fromkeys(rows))}." for caveat, rows in names.items())


def cross_table(cross: CrossEvaluation) -> Table:
    """Return a row for each system and corpus, with its scores or the reason why there are none."""
    columns: dict[str, str | None] = {"system": None, "trained on": None, "corpus": None, "UAR": ".1%"}
    columns |= {**BOUNDS, "accuracy": ".1%", "clips": "d", "own test clips": "d", "labels": "d", "chance": ".1%"}
    rows = []
    for row, column, cell in _entries(cross):
        entry = {
            "system": f"{row.name} *" if cell.caveats else row.name,
            "trained on": row.trained_on,
            "corpus": column.title,
            "labels": cell.labels,
            "no score": cell.reason or None,
        }
        if cell.estimates:
            uar = cell.estimates["uar"]
            entry |= {"UAR": uar.value, **bounds(uar), "accuracy": cell.estimates["accuracy"].value}
            entry |= {"clips": cell.clips, "own test clips": cell.tested, "chance": 1 / len(row.labels)}
        rows.append(entry)
    if any(entry["no score"] for entry in rows):
        columns["no score"] = None
    caption = CAPTION.format(bounded=HOW_BOUNDED, stars=_explain_stars(cross))
    return make_table("cross", caption, columns, rows)


def cross_figure(cross: CrossEvaluation) -> "Figure":
    """Return a heat map of the UAR of each system (row) on each corpus (column)."""
    import numpy as np
    from matplotlib.patches import Rectangle

    rows = [
        f"{wrap_text(row.name, LABEL_WIDTH)}\n{wrap_text(f'trained on {row.trained_on}', LABEL_WIDTH)}"
        for row in cross.rows
    ]
    columns = [wrap_text(column.title, COLUMN_WIDTH) for column in cross.columns]
    height = max(CELL_HEIGHT, *(LINE_HEIGHT * (2 + label.count("\n")) for label in rows))
    head = LINE_HEIGHT * (1 + max(label.count("\n") for label in columns))
    width = 4.4 + CELL_WIDTH * len(columns)
    figure = blank_figure(width, 1.3 + head + height * len(rows))
    title = "UAR with its 95 % interval over speakers; a frame marks a system's own test clips"
    figure.suptitle(wrap_text(title, int(11 * width)), fontsize="medium")
    axes = figure.add_subplot()
    values = [[cell.estimates["uar"].value if cell.estimates else np.nan for cell in of_row] for of_row in cross.cells]
    axes.set_facecolor(LIGHT_GREY)  # of the cells without a score
    image = axes.imshow(np.array(values, float), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for number, of_row in enumerate(cross.cells):
        for place, cell in enumerate(of_row):
            if not cell.estimates:
                text, colour = wrap_text(cell.reason, REASON_WIDTH), BLACK
                axes.text(place, number, text, ha="center", va="center", color=colour, fontsize=7)
                continue
            text, colour = _cell_text(cell), "white" if cell.estimates["uar"].value > 0.6 else BLACK
            axes.text(place, number, text, ha="center", va="center", color=colour, fontsize=8)
            if cell.tested == cell.clips:
                frame = {"fill": False, "edgecolor": BLACK, "linewidth": 2}
                axes.add_patch(Rectangle((place - 0.48, number - 0.47), 0.96, 0.94, **frame))
    axes.set_xticks(range(len(columns)), columns, fontsize="small")
    axes.set_yticks(range(len(rows)), rows, fontsize="small")
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.set_xticks(np.arange(0.5, len(columns) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(rows) - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_color(GREY)
    figure.colorbar(image, label="UAR", format="{x:.0%}")
    return figure


def _cell_text(cell: Cell) -> str:
    uar = cell.estimates["uar"]
    interval = uar.speakers or uar.clips
    lines = [f"{uar.value:.1%}{' *' if cell.caveats else ''}"]
    if interval:
        over = "" if uar.speakers else " over clips"
        lines.append(f"{interval[0]:.0%} to {interval[1]:.0%}{over}")
    return "\n".join([*lines, f"{cell.clips} clips"])


def format_cross(cross: CrossEvaluation) -> str:
    """Return the scores as text for a terminal, with the reason where there is none."""
    width = max(len(column.title) for column in cross.columns)
    lines = [f"{'':{width + 2}}{'UAR':>8}{'95 % over speakers':>21}{'accuracy':>10}{'clips':>8}"]
    for row, of_row in zip(cross.rows, cross.cells, strict=True):
        lines.append(f"{row.name}, trained on {row.trained_on}")
        for column, cell in zip(cross.columns, of_row, strict=True):
            start = f"  {column.title:{width}}"
            if not cell.estimates:
                lines.append(f"{start}  no score: {cell.reason}")
                continue
            uar, accuracy = cell.estimates["uar"], cell.estimates["accuracy"].value
            interval = "-" if uar.speakers is None else f"{uar.speakers[0]:.1%} to {uar.speakers[1]:.1%}"
            own = ", own test clips" if cell.tested == cell.clips else ""
            star = " *" if cell.caveats else ""
            lines.append(f"{start}{uar.value:8.1%}{interval:>21}{accuracy:10.1%}{cell.clips:8d}{own}{star}")
    stars = _explain_stars(cross).strip()
    return "\n".join([*lines, *([stars] if stars else []), *cross.left_out])
