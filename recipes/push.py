"""Push runs, or the corpus, to the Hub. Without --yes, the files are only shown.

python recipes/push.py runs/vivae/tuned/vit-32-30-speaker-k-fold-emotion-seed42 --repo someone/vit-32-30-vivae
python recipes/push.py --all runs/vivae --repo someone/vivae-study --yes
python recipes/push.py --dataset --data vivae --repo someone/vivae --license cc-by-nc-4.0 --yes
python recipes/push.py --space someone/vit-32-30-vivae --repo someone/demo --yes
"""

from pathlib import Path

from hf_vivae.cli_parser import run_script

ROOT = Path(__file__).parents[1]


def main(argv: list[str]) -> None:
    from hf_vivae.hub.arguments import parse_push
    from hf_vivae.hub.client import check_access
    from hf_vivae.hub.dataset import push_dataset
    from hf_vivae.hub.push import push_models
    from hf_vivae.hub.space import push_space

    arguments = parse_push(argv)
    if arguments.yes:
        check_access(arguments.repo)
    if arguments.dataset:
        push_dataset(arguments, ROOT / "model_cards")
    elif arguments.space:
        push_space(arguments, ROOT / "demo")
    else:
        push_models(arguments, ROOT / "model_cards")


if __name__ == "__main__":
    run_script(main)
