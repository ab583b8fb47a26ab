"""Measure the effect of each ingredient of a recipe: the whole recipe, without each, and with additions.

python recipes/ablate.py --model vit-32-30 --data synthetic --protocol speaker-k-fold
python recipes/ablate.py --model vit-32-30 --data synthetic --ingredients normalization "patch 32-69"
python recipes/ablate.py --model encoder:facebook/wav2vec2-base --data synthetic --folds 0 --seeds 42 43
"""

from pathlib import Path

from hf_vivae.cli_parser import run_script


def main(argv: list[str]) -> None:
    from hf_vivae.ablation.run import ablate

    report = ablate(argv, recipes=Path(__file__).parent)
    if report.text:  # one process of several writes it
        print(f"\n{report.text}\ntable    {report.folder / 'ablation.md'}, .csv, .json")
        print(f"figures  {report.folder / 'accuracy.png'}, uar.png")


if __name__ == "__main__":
    run_script(main)
