"""Measure how many speakers a model needs: its score against their number, over several draws of speakers.

python recipes/curve.py --model probe:whisper-base --data emogator
python recipes/curve.py --model probe:whisper-base --speakers 2 4 6 --folds 0 1 2 3 4
python recipes/curve.py --model mlp --recipe tuned --data synthetic --speakers 2 4 6 --draws 3
"""

from pathlib import Path

from hf_vivae.cli_parser import run_script


def main(argv: list[str]) -> None:
    from hf_vivae.curve.run import measure_curve

    report = measure_curve(argv, recipes=Path(__file__).parent)
    if report.text:  # one process of several writes it
        print(f"\n{report.text}\n\nreport   {report.folder / 'report.html'}, report.md")
        print(f"numbers  {report.folder / 'results.json'}, curve.csv\nfigure   {report.folder / 'curve.png'}")


if __name__ == "__main__":
    run_script(main)
