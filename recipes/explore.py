"""Describe the clips of a corpus in numbers and figures.

python recipes/explore.py --data synthetic
python recipes/explore.py --data folder --data_dir my_clips --speaker_pattern '^([^_]+)_'
python recipes/explore.py --data synthetic --trim_db 40
"""

from dataclasses import dataclass, field
from pathlib import Path

from hf_vivae.cli_parser import parse_flags, run_script
from hf_vivae.corpus.arguments import CorpusArguments, TrimArguments


@dataclass
class ExploreArguments(CorpusArguments, TrimArguments):
    """The corpus, the clip to draw, the trimming to describe, and the output folder."""

    clip: str | None = field(
        default=None,
        metadata={"help": "Name of the clip to draw, as in the column file; by default one of median length."},
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Output folder; runs/<data>/exploration by default."}
    )


def main(argv: list[str]) -> None:
    from hf_vivae.exploration.describe import explore, format_exploration
    from hf_vivae.run_folder import check_report_folder

    arguments = parse_flags(ExploreArguments, argv, __doc__)
    folder = Path(arguments.output_dir or Path("runs", arguments.folder_name, "exploration"))
    check_report_folder(folder)
    numbers, figures = explore(arguments.load(), folder, arguments.clip, arguments.trim)
    print(f"{format_exploration(numbers)}\n\nnumbers   {folder / 'exploration.json'}")
    for path in figures.values():
        print(f"figure    {path}")


if __name__ == "__main__":
    run_script(main)
