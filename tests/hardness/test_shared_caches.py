"""Several processes that fill one cache at the same moment. Of downloads and synthetic clips: test_download,
test_synthetic.
"""

import json
import os

import numpy as np
from forks import Fork

PROCESSES = 3
# reads the corpus, waits until all are ready, and computes; features are made slow, so that they overlap for certain
COMPUTE = """
import json, pathlib, sys, time
import numpy as np
from hf_vivae.features import cache as features
from hf_vivae.corpus import load_vivae
from hf_vivae.models import build_feature_extractor

corpus, ready, number = load_vivae(sys.argv[1], allow_partial=True), pathlib.Path(sys.argv[2]), sys.argv[3]
decode, computed = features.decode_batch, []

def slow(batch, *args):
    computed.append(len(batch["file"]))
    time.sleep(0.3)
    return decode(batch, *args)

features.decode_batch = slow
(ready / number).touch()
while len(list(ready.iterdir())) < int(sys.argv[4]):
    time.sleep(0.001)
made = features.build_features(corpus, build_feature_extractor("vit-32-30"), 1.0).with_format("numpy")
sums = [float(np.float64(next(iter(row.values()))).sum()) for row in made]
print(json.dumps({"computed": sum(computed), "sums": sums}))
"""


def compute(corpus, folder, processes: int) -> list[dict]:
    """Return the number of clips that each process computed, and the sums that it read from the shared cache."""
    (folder / "ready").mkdir(parents=True)
    environment = os.environ | {"HF_VIVAE_CACHE": str(folder / "cache")}
    ready, numbers = folder / "ready", range(processes)
    started = [Fork([corpus, ready, number, processes], code=COMPUTE, env=environment) for number in numbers]
    said = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * processes, said[0][1]
    return [json.loads(output.splitlines()[-1]) for output, _ in said]


def test_processes_that_compute_the_same_features_at_once_all_read_them_whole(tiny_vivae, tmp_path):
    [alone] = compute(tiny_vivae, tmp_path / "alone", 1)
    assert alone["computed"] >= 48
    assert np.ptp(alone["sums"]) > 0
    together = compute(tiny_vivae, tmp_path / "together", PROCESSES)
    assert sum(one["computed"] >= 48 for one in together) > 1, "they did overlap"
    assert [one["sums"] for one in together] == [alone["sums"]] * PROCESSES
    [file] = (path for path in (tmp_path / "together" / "cache" / "features").iterdir())
    [whole] = (path for path in (tmp_path / "alone" / "cache" / "features").iterdir())
    assert file.name == whole.name
    assert file.read_bytes() == whole.read_bytes(), "one file, and nothing left over beside it"
