"""Reproduce the study of the 2022 paper, with its figures next to ours in each table.

python recipes/reproduce.py --data vivae
python recipes/reproduce.py --data synthetic --quick --audit
python recipes/reproduce.py --data folder --data_dir my_clips --models vit-32-30 mlp --seeds 42 43 44
python recipes/reproduce.py --data synthetic --quick --models vit-32-30 --patches 32,30 16,69 8,23 32,69 16,30
"""

from pathlib import Path

from hf_vivae.cli_parser import run_script


def main(argv: list[str]) -> None:
    from hf_vivae.reproduction.study import reproduce

    report = reproduce(argv, recipes=Path(__file__).parent)
    if report.text:  # one process of several writes it
        print(f"\n{report.text}\nreport  {report.folder / 'report.html'}\n        {report.folder / 'report.md'}")


if __name__ == "__main__":
    run_script(main)
