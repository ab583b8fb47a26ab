"""The page of `hf-vivae demo` as a Space of the Hub.

`python recipes/push.py --space owner/model --repo owner/space --yes` pushes it with the files that
it needs. On your own machine, run `hf-vivae demo CHECKPOINT`.
"""

import tempfile
from pathlib import Path

from hf_vivae.inference.demo import build_demo, write_examples
from hf_vivae.inference.demo_server import serve_space

CHECKPOINTS = Path(__file__).with_name("checkpoints.txt").read_text(encoding="utf-8").split()

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        serve_space(build_demo(CHECKPOINTS, write_examples(Path(folder)), local=False))
