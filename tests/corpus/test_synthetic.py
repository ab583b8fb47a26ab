"""The synthetic corpus: VIVAE's names and format, reproducible samples, and a cache that is complete or absent."""

import hashlib
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from forks import Fork, run_forked

from hf_vivae.corpus import EMOTIONS, INTENSITIES, load_synthetic, load_vivae, synthetic
from hf_vivae.corpus.manifest import read_manifest
from hf_vivae.corpus.synthetic import synthesize_clip, synthesize_corpus
from hf_vivae.corpus.voice import SAMPLING_RATE, Utterance, vocalize

NAMES = [row["file_name"] for row in read_manifest()]
FEW = NAMES[::90]
# Program of a new process: a corpus of a few names, in the folder given as the first argument.
FEW_ONLY = f"""
import sys
from hf_vivae.corpus import synthetic
rows = {{name: synthetic._manifest()[name] for name in {FEW}}}
synthetic._manifest = lambda: rows
vocalize, sung = synthetic.vocalize, []
"""


@pytest.fixture(scope="module")
def corpus() -> Path:
    return synthesize_corpus()


@pytest.fixture(scope="module")
def clips(corpus: Path) -> dict[str, np.ndarray]:
    return {name: soundfile.read(corpus / "full_set" / name, dtype="int16")[0] for name in NAMES}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    rows = {name: synthetic._manifest()[name] for name in FEW}
    monkeypatch.setattr(synthetic, "_manifest", lambda: rows)
    synthetic._durations.cache_clear()
    yield
    synthetic._durations.cache_clear()


@pytest.fixture
def utterance() -> Utterance:
    """A steady voice at 200 Hz that is neither hoarse nor breathy."""
    vowel = np.array([700.0, 1200.0, 2500.0])
    flat = {key: 0.0 for key in ("gap", "inhale", "decay", "jitter", "shimmer", "roughness", "tremor")}
    return Utterance(
        samples=SAMPLING_RATE // 2, pitch=200.0, contour=np.zeros(5), bursts=1, attack=0.02, rasp=50.0,
        tremor_rate=6.0, breath=-80.0, tilt=4000.0, vowels=np.stack([vowel, vowel]), tract=1.0, level=-6.0,
        floor=-120.0, **flat,
    )  # fmt: skip


def spectrum(clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.rfftfreq(len(clip), 1 / SAMPLING_RATE), np.abs(np.fft.rfft(clip * np.hanning(len(clip))))


def energy(clip: np.ndarray, low: float, high: float) -> float:
    hertz, magnitude = spectrum(clip)
    return float((magnitude[(hertz >= low) & (hertz < high)] ** 2).sum())


def sung(utterance: Utterance) -> np.ndarray:
    return vocalize(utterance, np.random.default_rng(0))


def start(script: str, folder: Path) -> Fork:
    return Fork([folder], code=FEW_ONLY + script)


def test_the_files_are_named_as_vivae(corpus: Path):
    assert sorted(path.name for path in (corpus / "full_set").iterdir()) == sorted(NAMES)


def test_the_files_are_in_vivaes_format(corpus: Path):
    formats = set()
    for path in (corpus / "full_set").iterdir():
        info = soundfile.info(path)
        formats.add((info.samplerate, info.channels, info.format, info.subtype))
    assert formats == {(44100, 1, "WAV", "PCM_16")}


def test_durations_are_those_of_vivae(clips: dict[str, np.ndarray]):
    samples = np.array([len(clip) for clip in clips.values()])
    assert (samples.min(), samples.max()) == (17_619, 88_200)
    assert np.median(samples) == pytest.approx(35_732, rel=0.005)
    assert samples.mean() == pytest.approx(39_819, rel=0.005)
    assert ((samples - samples.mean()) ** 3).mean() > 0  # skewed to the right


def test_no_clip_is_silent_or_clipped(clips: dict[str, np.ndarray]):
    peaks = np.array([np.abs(clip.astype(int)).max() for clip in clips.values()])
    assert peaks.max() < 32767
    assert peaks.min() > 32767 * 10 ** (-36 / 20)


def test_intensity_is_loudness_but_emotion_is_not(clips: dict[str, np.ndarray]):
    level = {name: 20 * np.log10(clip.astype(float).std()) for name, clip in clips.items()}

    def means(place: int, labels: tuple[str, ...]) -> list[float]:
        return [np.mean([level[name] for name in NAMES if name.split("_")[place] == label]) for label in labels]

    assert np.diff(means(2, INTENSITIES)).min() > 3.0
    assert np.ptp(means(1, EMOTIONS)) < 5.0


def test_duration_hardly_depends_on_the_emotion(clips: dict[str, np.ndarray]):
    means = [np.mean([len(clips[name]) for name in NAMES if f"_{emotion}_" in name]) for emotion in EMOTIONS]
    assert np.ptp(means) / np.mean(means) < 0.35


def test_it_is_read_as_vivae_is(corpus: Path):
    dataset = load_synthetic()
    assert dataset["file"] == sorted(NAMES)
    assert dataset.features["emotion"].names == list(EMOTIONS)
    assert min(dataset["duration"]) == 17_619 / 44_100


def test_it_is_never_read_as_vivae_itself(corpus: Path):
    message = re.escape(
        f"expected the recordings of VIVAE in {corpus}, found clips that --data synthetic generates; use "
    )
    with pytest.raises(ValueError, match=f"^{message}"):
        load_vivae(corpus)


def test_the_stand_in_core_set_has_the_shape_of_vivaes():
    """Two takes of each emotion at each intensity by ten of the speakers: the first two by name."""
    dataset = load_synthetic()
    core = [file for file, chosen in zip(dataset["file"], dataset["core"], strict=True) if chosen]
    cells = Counter(file.rpartition("_")[0] for file in core)
    assert (len(core), len(cells), set(cells.values())) == (480, 10 * 6 * 4, {2})
    assert {file[:3] for file in NAMES} - {file[:3] for file in core} == {"S11"}
    assert core[:3] == ["S01_achievement_low_01.wav", "S01_achievement_low_02.wav", "S01_achievement_moderate_01.wav"]
    assert set(dataset["core"]) == {True, False}


def test_a_second_call_writes_nothing(corpus: Path):
    before = {path: path.stat().st_mtime_ns for path in [corpus, *corpus.rglob("*")]}
    assert synthesize_corpus() == corpus
    assert {path: path.stat().st_mtime_ns for path in [corpus, *corpus.rglob("*")]} == before


def test_a_file_holds_its_clip(corpus: Path):
    stored, _ = soundfile.read(corpus / "full_set" / FEW[3], dtype="int16")
    np.testing.assert_array_equal(stored, np.rint(synthesize_clip(FEW[3]) * 32767))


def test_a_clip_depends_on_nothing_but_name_and_seed():
    script = """
import hashlib
synthetic._manifest = synthetic.functools.cache(lambda: {r["file_name"]: r for r in synthetic.read_manifest()})
for name in sys.argv[1:]:
    print(hashlib.sha256(synthetic.synthesize_clip(name, 7).tobytes()).hexdigest())
"""
    digests = [hashlib.sha256(synthesize_clip(name, 7).tobytes()).hexdigest() for name in FEW]
    done = run_forked([*reversed(FEW)], code=FEW_ONLY + script)  # of an interpreter that hashes with a seed of its own
    assert done.stdout.split()[::-1] == digests, done.stderr


def test_another_seed_generates_other_clips():
    for name in FEW:
        first, second = synthesize_clip(name, 0), synthesize_clip(name, 1)
        shared = min(len(first), len(second))
        assert np.abs(np.corrcoef(first[:shared], second[:shared])[0, 1]) < 0.5


def test_a_changed_voice_has_a_new_version():
    """The cache distinguishes the voice by its version only: where these numbers change, the version has to change."""
    loudness = {
        "S01_anger_low_01.wav": 0.014284250,
        "S04_anger_strong_7.wav": 0.026402007,
        "S11_pleasure_peak_01.wav": 0.176352768,
    }
    assert synthetic.VERSION == "v1"
    assert {name: float(synthesize_clip(name).std()) for name in loudness} == pytest.approx(loudness, rel=1e-6)


def test_an_unknown_name_is_refused():
    message = (
        "expected one of the 1085 file names of VIVAE, found 'S12_joy_low_01.wav'; "
        "hf_vivae.corpus.manifest.read_manifest lists them."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        synthesize_clip("S12_joy_low_01.wav")


def test_a_seed_below_0_is_refused(tmp_path: Path):
    message = "^expected a seed of at least 0, found -1; give another with --synthetic_seed.$"
    with pytest.raises(ValueError, match=message):
        synthesize_corpus(-1, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message):
        synthesize_clip(FEW[0], -1)


def test_a_killed_build_leaves_no_corpus(tmp_path: Path, few: None):
    script = """
import time
synthetic.vocalize = lambda *a: sung.append(0) or (vocalize(*a) if len(sung) < 4 else time.sleep(600))
synthetic.synthesize_corpus(0, sys.argv[1])
"""
    process = start(script, tmp_path)
    while len(list(tmp_path.rglob("*.wav"))) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.glob(f"synthetic/seed-0-{synthetic.VERSION}"))

    folder = synthesize_corpus(0, tmp_path)
    assert sorted(path.name for path in folder.rglob("*.wav")) == sorted(FEW)
    assert not list(tmp_path.rglob("*.partial"))


def test_two_processes_build_one_corpus(tmp_path: Path):
    script = """
synthetic.vocalize = lambda *a: sung.append(0) or vocalize(*a)
print(synthetic.synthesize_corpus(0, sys.argv[1]), len(sung))
"""
    processes = [start(script, tmp_path) for _ in range(2)]
    outputs = sorted(process.communicate()[0] for process in processes)
    folder = tmp_path / "synthetic" / f"seed-0-{synthetic.VERSION}"
    assert outputs == [f"{folder} 0\n", f"{folder} {len(FEW)}\n"]
    assert sorted(path.name for path in folder.rglob("*.wav")) == sorted(FEW)


def test_the_voice_sings_the_pitch_it_is_given(utterance: Utterance):
    hertz, magnitude = spectrum(sung(utterance))
    low = hertz < 300
    assert hertz[low][magnitude[low].argmax()] == pytest.approx(200, abs=3)


def test_the_contour_bends_the_pitch(utterance: Utterance):
    clip = sung(replace(utterance, contour=np.array([0.0, 12.0])))
    halves = [spectrum(half) for half in np.array_split(clip, 2)]
    first, second = (hertz[hertz < 450][magnitude[hertz < 450].argmax()] for hertz, magnitude in halves)
    assert 200 < first < 290 < second < 410


def test_a_shorter_tract_raises_the_formants(utterance: Utterance):
    low, high = (sung(replace(utterance, tract=tract)) for tract in (0.9, 1.3))
    assert energy(low, 500, 750) / energy(low, 800, 1050) > 5 * energy(high, 500, 750) / energy(high, 800, 1050)


def test_roughness_brings_subharmonics(utterance: Utterance):
    smooth, rough = (sung(replace(utterance, roughness=depth, rasp=1.0)) for depth in (0.0, 0.9))
    assert energy(smooth, 285, 315) < 1e-3 * energy(smooth, 185, 215)
    assert energy(rough, 285, 315) > 1e-2 * energy(rough, 185, 215)


def test_breath_fills_the_gaps_between_harmonics(utterance: Utterance):
    clear, breathy = (sung(replace(utterance, breath=breath)) for breath in (-80.0, -5.0))
    assert energy(breathy, 5050, 5150) > 10 * energy(clear, 5050, 5150)


def test_bursts_are_separated_by_silence(utterance: Utterance):
    clip = np.abs(sung(replace(utterance, bursts=3, gap=0.4, floor=-60.0)))
    loud = np.convolve(clip, np.full(441, 1 / 441), mode="same") > 0.01
    assert np.count_nonzero(np.diff(loud.astype(int)) == 1) == 3


def test_the_page_shows_the_styles_of_the_code():
    page = (Path(__file__).parents[2] / "docs" / "synthetic.md").read_text(encoding="utf-8")
    table = {row[0]: row[1:] for line in page.splitlines() if len(row := line.strip("| ").split(" | ")) == 13}
    styles = synthetic.STYLES | {"(murmur)": synthetic.MURMUR, "(scream)": synthetic.SCREAM}
    assert table.keys() - {"style"} == styles.keys()
    names = {formants: name for name, formants in synthetic.VOWELS.items()}
    for name, style in styles.items():
        assert table[name] == [
            f"{style.register:+g}",
            " ".join(f"{step:g}" for step in style.contour),
            f"{style.tempo:g}",
            f"{100 * style.gap:g}",
            f"{100 * style.inhale:g}",
            f"{1000 * np.exp(style.attack):.0f}",
            f"{style.decay:g}",
            f"{1 / (1 + np.exp(-style.roughness)):.2f}",
            f"{style.tremor:g} at {style.tremor_rate:g}",
            f"{style.breath:g}",
            f"{np.exp(style.tilt):.0f}",
            " to ".join(names[tuple(vowel)] for vowel in style.vowels),
        ]


@pytest.mark.slow
def test_raw_waveforms_hardly_predict_the_emotion(clips: dict[str, np.ndarray]):
    from sklearn.linear_model import LogisticRegression

    waveforms = np.zeros((len(NAMES), 44_100), dtype=np.float32)
    for row, clip in zip(waveforms, clips.values(), strict=True):
        cut = clip[:44_100]
        left = (len(row) - len(cut)) // 2
        row[left : left + len(cut)] = cut / 32_768
    emotions = np.array([name.split("_")[1] for name in NAMES])
    test = np.array([name[:3] in ("S05", "S06") for name in NAMES])
    model = LogisticRegression(max_iter=100).fit(waveforms[~test], emotions[~test])
    assert model.score(waveforms[test], emotions[test]) < 0.30
