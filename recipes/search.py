"""Search for a model's hyperparameters on validation clips, and write the best ones as a recipe.

python recipes/search.py --model wav2vec2 --data synthetic --trials 20
python recipes/search.py --model vit-32-30 --data synthetic --storage sqlite:///runs/search.db
python recipes/search.py --model whisper-base --backend ray --resources_per_trial '{"cpu": 4, "gpu": 1}'
"""

from pathlib import Path

from hf_vivae.cli_parser import run_script


def main(argv: list[str]) -> None:
    from hf_vivae.search.search import search

    print(f"\n{search(argv, recipes=Path(__file__).parent).text}")


if __name__ == "__main__":
    run_script(main)
