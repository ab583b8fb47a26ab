"""Train and score one model.

accelerate launch recipes/train.py --model wav2vec2
accelerate launch recipes/train.py --model vit-32-30 --data synthetic --recipe quick
torchrun --nproc_per_node 2 recipes/train.py --model mlp --data folder --data_dir my_clips
python recipes/train.py --write_folds folds.jsonl --data folder --data_dir my_clips
"""

from pathlib import Path

from hf_vivae.cli_parser import run_script


def main(argv: list[str]) -> None:
    from hf_vivae.training.folds_file import write_folds
    from hf_vivae.training.recipes import parse_folds, parse_run
    from hf_vivae.training.run import train
    from hf_vivae.training.scoring import format_results

    if folds := parse_folds(argv, recipes=Path(__file__).parent):
        print(write_folds(*folds))
        return
    run, args = parse_run(argv, recipes=Path(__file__).parent)
    cards = Path(__file__).parents[1] / "model_cards"
    pushes = []
    if args.push_to_hub and args.process_index == 0:
        from hf_vivae.hub.push import PushToHubCallback  # imports all that cards of models are made of

        pushes = [PushToHubCallback(args, cards)]
    results, folders = train(run, args, callbacks=pushes)
    if args.process_index == 0:
        print(f"\n{format_results(results)}\n\n{describe(Path(args.output_dir), folders)}")
    for push in pushes:
        print(f"\npushed      {push.finish()}")


def describe(output: Path, folders: list[Path]) -> str:
    """Return the paths of the results, and lines of Python that load the first checkpoint."""
    checkpoints = ", ".join(str(folder) for folder in folders)
    curves = ", ".join(str(curve) for folder in folders for curve in sorted(folder.glob("*.png"))) or "none"
    return f"""\
results     {output / "results.json"}
checkpoint  {checkpoints}
curves      {curves}

Load it:
import hf_vivae
from transformers import pipeline
classify = pipeline("audio-classification", "{folders[0]}", top_k=None)"""


if __name__ == "__main__":
    run_script(main)
