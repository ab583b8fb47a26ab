"""Recordings made of clips at known times, and sounds that are no vocalisations."""

import numpy as np
import pytest
import soundfile
from runner import ROOT, flags, run, script

from hf_vivae.annotations.read import read_annotations
from hf_vivae.models.silence import frame_energies
from hf_vivae.run_folder import read_predictions

BENCHMARKS = ROOT / "benchmarks"


@pytest.mark.usefixtures("no_pictures")
def test_each_clip_of_the_part_is_a_segment_at_its_place(tiny_vivae, tmp_path, capsys):
    run(flags(tiny_vivae, tmp_path / "run", "mlp", "--folds", "0", "--num_train_epochs", "1"))
    folder = tmp_path / "run" / "S01"
    script(BENCHMARKS / "sounds.py").main(["--output", str(tmp_path / "sounds"), "--count", "1"])
    argv = ["--data", "vivae", "--data_dir", str(tiny_vivae), "--allow_partial", "--output", str(tmp_path / "made")]
    argv = [str(folder), *argv, "--minutes", "0.2", "--others", str(tmp_path / "sounds")]
    script(BENCHMARKS / "recordings.py").main(argv)
    tested = [row for row in read_predictions(folder) if row["split"] == "test"]
    made = sorted((tmp_path / "made").glob("*.TextGrid"))
    annotations = [annotation for file in made for annotation in read_annotations(file)]
    assert sum(len(annotation.segments) for annotation in annotations) == len(tested)
    for file, annotation in zip(made, annotations, strict=True):
        samples, rate = soundfile.read(file.with_suffix(".flac"))
        assert annotation.seconds == pytest.approx(len(samples) / rate, abs=1e-3)
        background = np.median(frame_energies(samples[: rate // 4], rate))
        for segment in annotation.segments:
            energies = frame_energies(samples[round(segment.start * rate) : round(segment.end * rate)], rate)
            assert energies.max() > 10 * background
    with pytest.raises(SystemExit, match=r"^error: expected a new folder as --output, found .*made"):
        script(BENCHMARKS / "recordings.py").main(argv)
    assert f"{len(annotations[0].segments)} segments" in capsys.readouterr().out
