"""Folds of a protocol as a file that other programs read, without a training."""

from pathlib import Path
from typing import Any

from ..files import check_place, write_lines
from ..splits.folds import PARTS
from .arguments import DataArguments
from .build import fold_parts, load_training_data
from .run import choose_folds


def write_folds(path: Path, run: DataArguments, seed: int, select_on: str) -> str:
    """Write a line of JSON for each clip of each fold, and return a table of their numbers for the terminal.

    A line has the name of the `fold`; the `split`: train, validation or test; `file`, the name of the clip in run
    folders; its `path`, relative to `--data_dir` where it lies there, and null for a clip in an archive; `label`;
    `speaker`, null where it is unknown; and the `digest` of its file.

    Args:
        path: of the file; an existing one is replaced in one step.
        run: the clips and the protocol; some of the folds with `run.folds`.
        seed: of the protocol.
        select_on: as in `RunArguments`; clips that do not select belong to the training clips.

    Raises:
        UserError: for clips that cannot be used or divided, and a number of a fold that there is not.
        DiskError: for a path that cannot be written to.
    """
    check_place(path, "--write_folds")
    data = load_training_data(run, seed, run.load())
    folds = choose_folds(data.folds, run.folds)
    paths = [_path(source, run.data_dir) for source in data.corpus.dataset["audio"][:]]
    lines, rows = [], [("fold", *PARTS)]
    for fold in folds:
        parts = fold_parts(fold, select_on)
        rows.append((fold.name, *(str(len(parts.get(part, ()))) for part in PARTS)))
        for part, clips in parts.items():
            for clip, row in ((data.clips[row], row) for row in clips):
                lines.append(
                    {
                        "fold": fold.name,
                        "split": part,
                        "file": clip["file"],
                        "path": paths[row],
                        "label": data.label_names[clip["label"]],
                        "speaker": clip["speaker"],
                        "digest": clip["digest"],
                    }
                )
    write_lines(path, lines)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    title = f"{len(data.clips)} {data.corpus.title}, {run.task}, {run.protocol}, seed {seed}"
    return "\n".join([title, *table, "", f"folds  {path}"])


def _path(source: dict[str, Any], data_dir: str | None) -> str | None:
    """Return the path of a clip's file, relative to the folder of the corpus where it lies there."""
    if source["bytes"] is not None:
        return None
    path = Path(source["path"])
    return str(path.relative_to(data_dir) if data_dir and path.is_relative_to(data_dir) else path)
