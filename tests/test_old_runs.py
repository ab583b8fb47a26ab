"""A finished run of commit 74c5b9f (0.1.0), as small as a run can be: later versions read, score and repeat it.

Made with `recipes/train.py --model mlp --data vivae --data_dir corpus --allow_partial true --protocol
leave-one-speaker-out --folds 0 --recipe tuned --num_train_epochs 1 --per_device_train_batch_size 8 --model_config
'{"num_samples": 1200, "hidden_sizes": [4]}' --output_dir runs/mlp` on the clips of the fixture `tiny_vivae`. Its
pictures, its last checkpoint and most of the names of missing clips are left out, to keep it small.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from runner import ROOT

RUN = Path(__file__).parent / "fixtures" / "finished_run"


@pytest.fixture
def finished(tmp_path, tiny_vivae) -> Path:
    """A copy of the run whose clips lie where `tiny_vivae` is."""
    from hf_vivae.corpus import read_vivae

    copy = tmp_path / "run"
    shutil.copytree(RUN, copy)
    problems = [str(problem) for problem in read_vivae(tiny_vivae, allow_partial=True).problems]
    for file in (copy / "run.json", copy / "S01" / "run.json"):
        record = json.loads(file.read_text())
        record["run"]["data_dir"], record["corpus"]["problems"] = str(tiny_vivae.resolve()), problems
        file.write_text(json.dumps(record))
    return copy


def test_its_checkpoint_gives_the_probabilities_that_it_gave(tiny_vivae):
    from hf_vivae import load_classifier
    from hf_vivae.run_folder import read_predictions

    classify = load_classifier(RUN / "S01")
    rows = [row for row in read_predictions(RUN / "S01") if row["split"] == "test"]
    assert len(rows) == 12
    for row in rows:
        scores = {entry["label"]: entry["score"] for entry in classify(str(tiny_vivae / "full_set" / row["file"]))}
        exponentials = np.exp(row["logits"])
        labels = classify.model.config.id2label
        assert [scores[labels[index]] for index in range(6)] == pytest.approx(
            (exponentials / exponentials.sum()).tolist(), abs=1e-5
        )


def test_it_is_evaluated(tmp_path):
    from hf_vivae.evaluation.evaluate import evaluate

    evaluate([RUN], tmp_path)
    [system] = json.loads((tmp_path / "results.json").read_text())["groups"][0]["systems"]
    assert system["name"] == "mlp tuned (1 of 4 folds, seed 42)"
    scores = json.loads((RUN / "results.json").read_text())["test"]
    for name in ("accuracy", "uar", "macro_f1", "macro_auc"):
        assert system["scores"][name]["value"] == pytest.approx(scores[name])


def test_it_is_finished_and_not_trained_again(finished, tiny_vivae, caplog):
    from hf_vivae.training.recipes import parse_run
    from hf_vivae.training.run import train

    argv = ["--config", str(finished / "run.json"), "--output_dir", str(finished)]
    results = train(*parse_run(argv, ROOT / "recipes"))[0]
    assert any("is finished and not trained again" in message for message in caplog.messages)
    assert results == json.loads((RUN / "results.json").read_text())
