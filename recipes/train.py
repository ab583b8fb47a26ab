"""Train and score one model.

accelerate launch recipes/train.py --model wav2vec2
python recipes/train.py --model vit-32-30 --data synthetic --learning_rate 4e-4 --num_train_epochs 10
torchrun --nproc_per_node 2 recipes/train.py --model mlp --data folder --data_dir my_clips
"""

import sys
import traceback
from pathlib import Path


def main(argv: list[str]) -> None:
    from hf_vivae.arguments import parse_run
    from hf_vivae.training import format_results, train

    run, args = parse_run(argv, recipes=Path(__file__).parent)
    results = train(run, args)
    if args.process_index == 0:
        print(format_results(results))


def said_by_us(error: BaseException) -> bool:
    """Whether hf_vivae itself raised the error, so that its sentence is enough without a traceback."""
    return "hf_vivae" in Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        if not said_by_us(error):
            raise
        sys.exit(f"error: {error}")
