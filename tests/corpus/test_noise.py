"""The control corpus: white noise under VIVAE's names, from which no label can be predicted."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_vivae.corpus import CorpusError, load_corpus
from hf_vivae.corpus import generated as noise
from hf_vivae.corpus.generated import make_noise_corpus, noise_clip
from hf_vivae.corpus.manifest import read_manifest

NAMES = [row["file_name"] for row in read_manifest()]


@pytest.fixture(scope="module")
def corpus() -> Path:
    return make_noise_corpus()


@pytest.fixture(scope="module")
def clips(corpus: Path) -> dict[str, np.ndarray]:
    return {name: soundfile.read(corpus / "full_set" / name, dtype="int16")[0] for name in NAMES}


def test_it_has_vivaes_labels_and_its_own_name(corpus: Path):
    read = load_corpus("noise")
    assert (read.name, read.problems) == ("noise", ())
    assert read.dataset["file"] == sorted(NAMES)
    assert np.bincount(read.dataset["emotion"]).tolist() == [161, 174, 176, 185, 202, 187]
    assert len(set(read.dataset["speaker"])) == 11
    assert sum(read.dataset["core"]) == 480


def test_the_flag_sets_the_seed(monkeypatch: pytest.MonkeyPatch, corpus: Path):
    asked = []
    monkeypatch.setattr(noise, "make_noise_corpus", lambda *given: asked.append(given) or corpus)
    load_corpus("noise", synthetic_seed=7)
    assert asked == [(7, None)]


def test_a_second_call_writes_nothing(corpus: Path):
    before = {path: path.stat().st_mtime_ns for path in [corpus, *corpus.rglob("*")]}
    assert make_noise_corpus() == corpus
    assert {path: path.stat().st_mtime_ns for path in [corpus, *corpus.rglob("*")]} == before


def test_no_clip_is_near_clipping(clips: dict[str, np.ndarray]):
    assert max(np.abs(clip.astype(int)).max() for clip in clips.values()) < 0.7 * 32767


def test_lengths_are_about_those_of_vivae(clips: dict[str, np.ndarray]):
    samples = np.array([len(clip) for clip in clips.values()])
    assert samples.min() >= 17_619
    assert samples.max() <= 88_200
    assert samples.mean() == pytest.approx(39_819, rel=0.05)


def test_the_noise_is_white_and_gaussian(clips: dict[str, np.ndarray]):
    samples = np.concatenate([clips[name][:17_619] for name in NAMES[::5]]) / 32767
    assert samples.mean() == pytest.approx(0, abs=2e-4)
    assert samples.std() == pytest.approx(0.1, rel=2e-3)
    assert np.mean(samples**4) / np.mean(samples**2) ** 2 == pytest.approx(3, abs=0.01)  # kurtosis of a Gaussian
    for lag in (1, 2, 10, 100):
        assert np.mean(samples[lag:] * samples[:-lag]) / np.mean(samples**2) == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("place", [0, 1, 2], ids=["speaker", "emotion", "intensity"])
@pytest.mark.parametrize("quantity", ["length", "level", "peak"])
def test_no_label_can_be_predicted(clips: dict[str, np.ndarray], place: int, quantity: str):
    """Kruskal-Wallis test; the lengths of the synthetic clips depend on the emotion, with p below 1e-10."""
    from scipy.stats import kruskal

    measure = {"length": len, "level": np.std, "peak": np.max}[quantity]
    groups = {}
    for name in NAMES:
        groups.setdefault(name.split("_")[place], []).append(measure(clips[name]))
    assert kruskal(*groups.values()).pvalue > 0.01


def test_every_clip_is_its_own_noise():
    made = [noise_clip(name, seed)[:17_619] for name in NAMES[:3] for seed in (0, 1)]
    correlations = np.corrcoef(made)
    np.testing.assert_allclose(correlations, np.eye(len(made)), atol=0.05)
    np.testing.assert_array_equal(noise_clip(NAMES[0], 1)[:17_619], made[1])


def test_changed_noise_has_a_new_version():
    """The cache distinguishes the noise by its version only: where these numbers change, the version has to change."""
    assert noise.NOISE_VERSION == "v1"
    made = [noise_clip(name) for name in NAMES[::500]]
    assert [len(clip) for clip in made] == [17_991, 86_274, 32_068]
    assert [clip[5] for clip in made] == pytest.approx([-0.025779, -0.131721, -0.000354], abs=1e-6)


def test_a_seed_below_0_is_refused(tmp_path: Path):
    message = "^expected a seed of at least 0, found -1; give another with --synthetic_seed.$"
    with pytest.raises(ValueError, match=message):
        make_noise_corpus(-1, tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_clips_are_named_with_the_remedy(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken = tmp_path / "broken"
    shutil.copytree(corpus, broken)
    (broken / "full_set" / NAMES[0]).unlink()
    monkeypatch.setattr(noise, "make_noise_corpus", lambda seed, cache_dir: broken)
    message = (
        f"expected the noise clips in {broken} as they were generated, found them damaged (missing: {NAMES[0]}); "
        "delete that folder to generate them again."
    )
    with pytest.raises(CorpusError, match=f"^{re.escape(message)}$"):
        load_corpus("noise")


@pytest.mark.parametrize(
    ("options", "found"),
    [({"data_dir": "x"}, "--data_dir"), ({"synthetic_seed": 1, "subset": "core"}, "--subset")],
)
def test_options_of_other_sources_are_refused(options: dict[str, object], found: str):
    message = f"expected only options that --data noise has, found {found}; leave them out."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_corpus("noise", **options)
