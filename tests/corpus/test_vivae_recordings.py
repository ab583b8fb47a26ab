"""Recognition of VIVAE by the lengths of its clips, and of generated clips, which are never taken for it."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from vivae_copies import NAMES, archived, error_of, wave

from hf_vivae.corpus import manifest
from hf_vivae.corpus.generated import noise_clip, recognize_generated, typical_samples
from hf_vivae.corpus.synthetic import synthesize_clip
from hf_vivae.corpus.vivae import read_vivae

SHORT = (
    "with other lengths than VIVAE: shortest 2205, median 2205, mean 2205, longest 2205 samples, not 17619, 35732, "
)
CLIPS = {"synthetic": synthesize_clip, "noise": noise_clip}


@pytest.fixture(scope="module")
def published_lengths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 1085 names with the minimum, maximum, median and mean length of VIVAE."""
    samples = [manifest.SHORTEST, *[manifest.MEDIAN] * 543, *[43_880] * 540, manifest.LONGEST]
    folder = tmp_path_factory.mktemp("published") / "full_set"
    folder.mkdir()
    first: dict[int, Path] = {}
    for name, count in zip(NAMES, samples, strict=True):
        if count in first:
            (folder / name).hardlink_to(first[count])
        else:
            first[count] = folder / name
            first[count].write_bytes(wave(seconds=count / 44100))
    return folder.parent


def test_clips_of_vivaes_lengths_are_accepted(published_lengths):
    assert read_vivae(published_lengths).problems == ()


def test_clips_of_other_lengths_are_refused(whole_vivae):
    error = error_of(whole_vivae)
    assert error.problems == (f"{SHORT}39819 and 88200",)
    assert "; get VIVAE.zip again from https://doi.org/10.5281/zenodo.4066235, or use the clips" in str(error)
    assert error_of(whole_vivae, on_bad_audio="skip").problems == error.problems
    assert read_vivae(whole_vivae, allow_partial=True).problems == error.problems


@pytest.mark.parametrize("place", range(4))
def test_each_of_the_four_lengths_counts(place):
    samples = [manifest.SHORTEST, *[manifest.MEDIAN] * 543, *[43_880] * 540, manifest.LONGEST]
    assert manifest.compare_lengths(samples) is None
    changed = sorted(samples)
    if place == 1:
        changed[2:544] = [manifest.MEDIAN - 1] * 542
    elif place == 2:
        changed[600] += 2000
    else:
        changed[{0: 0, 3: -1}[place]] += 1
    assert manifest.compare_lengths(changed) is not None


@pytest.mark.parametrize("maker", CLIPS)
@pytest.mark.parametrize("kind", ["folder", "archive", "core_set"])
def test_generated_clips_are_refused(maker, kind, tmp_path):
    """A part of the clips, with another seed than the default, alone in another folder."""
    folder = tmp_path / "VIVAE" / ("core_set" if kind == "core_set" else "full_set")
    folder.mkdir(parents=True)
    for name in NAMES[::90]:
        pcm = np.rint(CLIPS[maker](name, 7) * 32767).astype(np.int16)
        soundfile.write(folder / name, pcm, 44100, subtype="PCM_16")
    path = archived(tmp_path / "VIVAE.zip", folder.parent) if kind == "archive" else folder.parent
    message = (
        f"expected the recordings of VIVAE in {path}, found clips that --data {maker} generates; "
        f"use --data {maker}, or give the folder or archive of VIVAE with --data_dir."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_vivae(path, "core" if kind == "core_set" else "full", allow_partial=True)


def test_recordings_are_not_taken_for_generated_clips():
    """Also with the level of the noise, and where all but one have a length of the synthetic clips."""
    lengths, level = typical_samples(np.linspace(0, 1, 1085)).tolist(), np.full(1085, 0.1)
    assert recognize_generated(lengths, level, 0.3 * level) == "synthetic"
    assert recognize_generated([*lengths[1:], lengths[1]], level, 0.3 * level) is None
    assert recognize_generated([lengths[1]] * 9, [0.1] * 9, [0.1414] * 9) is None, "too few to tell"
    assert recognize_generated([30_000] * 10, [0.1] * 10, [0.1414] * 10) == "noise"
    assert recognize_generated([30_000] * 10, [0.1] * 10, [0.1414] * 9 + [0.1]) is None
    assert recognize_generated([30_000] * 10, [0.0] * 10, [0.0] * 10) is None, "silence is not white"
