"""Trimming: silence is cut off both ends of a clip only, as the flags state, and the cuts are counted."""

import re

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_vivae.cli_parser import parse_flags
from hf_vivae.corpus import load_corpus
from hf_vivae.corpus.arguments import TrimArguments
from hf_vivae.exploration.trimming import Cuts, measure_cuts, trim_statistics
from hf_vivae.models.silence import frame_energies, non_silent_range

RATE = 16000  # frames of 160 samples
FRAME = 160
TRIM = {"trim_db": 40.0, "trim_margin": 0.05, "trim_min_seconds": 0.1}


def noise(samples: int, amplitude: float = 0.3, seed: int = 0) -> np.ndarray:
    return (amplitude * np.random.default_rng(seed).uniform(-1, 1, samples)).astype(np.float32)


def burst(before: int, sound: int, after: int, floor: float = 0.0) -> np.ndarray:
    """Noise between two stretches of silence, or of noise of another amplitude."""
    return np.concatenate([noise(before, floor, 1), noise(sound), noise(after, floor, 2)])


def swell(rise: int, fall: int) -> np.ndarray:
    """Noise that rises from 80 dB below its loudest part and falls by as much."""
    decibels = np.concatenate([np.linspace(-80, 0, rise), np.linspace(0, -80, fall)])
    return noise(rise + fall) * (10 ** (decibels / 20)).astype(np.float32)


@st.composite
def stretches(draw) -> np.ndarray:
    """Clips of consecutive noises of different length and loudness, with digital silence among them."""
    parts = st.tuples(st.integers(1, 2000), st.sampled_from([0.0, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0]))
    drawn = draw(st.lists(parts, min_size=1, max_size=8))
    return np.concatenate([noise(length, amplitude, seed) for seed, (length, amplitude) in enumerate(drawn)])


SETTINGS = st.fixed_dictionaries(
    {
        "trim_db": st.sampled_from([1.0, 20.0, 40.0, 60.0]),
        "trim_margin": st.sampled_from([0.0, 0.013, 0.05, 9.0]),
        "trim_min_seconds": st.sampled_from([0.025, 0.1, 0.33, 9.0]),
    }
)
few = settings(max_examples=60, deadline=None)


class TestNonSilentRange:
    def test_the_silence_is_cut_and_the_margin_stays(self):
        clip = burst(20 * FRAME, 30 * FRAME, 40 * FRAME)
        assert non_silent_range(clip, RATE, **TRIM) == (15 * FRAME, 55 * FRAME)
        assert non_silent_range(clip, RATE, 40.0, 0.0, 0.1) == (20 * FRAME, 50 * FRAME)

    @pytest.mark.parametrize(("trim_db", "first"), [(54.0, 20), (58.0, 0)])
    def test_silence_lies_further_below_the_loudest_frame_than_the_threshold(self, trim_db, first):
        # two square waves, so that the energy of every frame is known: 20 log10(0.4 / 0.0006) = 56.5 dB apart
        square = np.tile([1.0, -1.0], 10 * FRAME)
        clip = np.concatenate([0.0006 * square, 0.4 * square])
        assert non_silent_range(clip, RATE, trim_db, 0.0, 0.1) == (first * FRAME, 40 * FRAME)

    def test_a_margin_is_rounded_up_to_whole_frames_and_ends_with_the_clip(self):
        clip = burst(20 * FRAME, 30 * FRAME, 5 * FRAME)
        assert non_silent_range(clip, RATE, 40.0, 0.051, 0.1) == (14 * FRAME, 55 * FRAME)
        assert non_silent_range(clip, RATE, 40.0, 1.0, 0.1) == (0, len(clip))

    def test_silence_between_sounds_stays(self):
        clip = np.concatenate([burst(20 * FRAME, 9 * FRAME, 50 * FRAME), burst(0, 9 * FRAME, 20 * FRAME)])
        assert non_silent_range(clip, RATE, 40.0, 0.0, 0.1) == (20 * FRAME, 88 * FRAME)

    @pytest.mark.parametrize("constant", [0.0, 0.1, -1.0])
    def test_a_clip_that_is_silent_throughout_stays_whole(self, constant):
        assert non_silent_range(np.full(1000, constant, np.float32), RATE, **TRIM) == (0, 1000)

    @pytest.mark.parametrize("samples", [1, 2, FRAME - 1, FRAME, FRAME + 1])
    def test_a_clip_of_a_frame_or_less_stays_whole(self, samples):
        assert non_silent_range(noise(samples), RATE, **TRIM) == (0, samples)

    def test_a_short_part_is_widened_equally_on_both_sides(self):
        clip = burst(50 * FRAME, FRAME, 49 * FRAME)
        middle = 50.5 * FRAME
        assert non_silent_range(clip, RATE, 40.0, 0.0, 0.2) == (middle - 0.1 * RATE, middle + 0.1 * RATE)

    @pytest.mark.parametrize(("before", "after", "part"), [(2, 97, (0, 20)), (97, 2, (80, 100))])
    def test_it_is_widened_as_far_as_the_clip_goes(self, before, after, part):
        clip = burst(before * FRAME, FRAME, after * FRAME)
        assert non_silent_range(clip, RATE, 40.0, 0.0, 0.2) == (part[0] * FRAME, part[1] * FRAME)
        assert non_silent_range(clip, RATE, 40.0, 0.0, 2.0) == (0, len(clip))

    @pytest.mark.parametrize("offset", [0.2, -0.7])
    def test_an_offset_is_no_sound(self, offset):
        clip = burst(20 * FRAME, 30 * FRAME, 40 * FRAME + 77, floor=1e-4)  # the last frame is not complete
        assert non_silent_range(clip + np.float32(offset), RATE, **TRIM) == (15 * FRAME, 55 * FRAME)

    def test_a_click_does_not_make_a_voice_silent(self):
        clip = burst(20 * FRAME, 30 * FRAME, 40 * FRAME) * np.float32(0.02)  # 0.006 at most
        clip[35 * FRAME] = 1.0  # its peak is more than 40 dB above all others, the energy of its frame is not
        assert non_silent_range(clip, RATE, 40.0, 0.0, 0.1) == (20 * FRAME, 50 * FRAME)
        clip[35 * FRAME : 36 * FRAME : 2] = 1.0
        assert non_silent_range(clip, RATE, 40.0, 0.0, 0.025)[0] > 20 * FRAME

    def test_a_click_alone_counts_as_sound(self):
        clip = burst(20 * FRAME, 30 * FRAME, 40 * FRAME)
        clip[3 * FRAME] = 0.5
        assert non_silent_range(clip, RATE, 40.0, 0.0, 0.1) == (3 * FRAME, 50 * FRAME)

    @pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
    def test_frames_are_10_ms_at_every_rate(self, rate):
        clip = np.concatenate([np.zeros(rate // 2), noise(rate // 2), np.zeros(rate // 2)])
        first, last = non_silent_range(clip, rate, **TRIM)
        assert 0.5 - 0.07 < first / rate <= 0.5 - 0.05
        assert 1 + 0.05 <= last / rate < 1 + 0.07

    # librosa 0.11.0's effects.trim(clip, top_db=top_db, frame_length=FRAME, hop_length=FRAME // 4)[1], which takes
    # numba most of a minute
    @pytest.mark.parametrize(
        ("lengths", "top_db", "ends"),
        [
            ((3001, 9003), 20, (2240, 5360)),
            ((3001, 9003), 40, (1480, 7640)),
            ((3001, 9003), 60, (720, 9840)),
            ((12345, 160), 20, (9200, 12480)),
            ((12345, 160), 40, (6000, 12505)),
            ((12345, 160), 60, (3000, 12505)),
            ((1, 7777), 20, (0, 2000)),
            ((1, 7777), 40, (0, 3960)),
            ((1, 7777), 60, (0, 5840)),
        ],
    )
    def test_librosa_finds_the_same_ends_within_a_frame(self, lengths, top_db, ends):
        found = non_silent_range(swell(*lengths), RATE, top_db, 0.0, 0.025)
        assert found == pytest.approx(ends, abs=FRAME)


class TestProperties:
    @few
    @given(stretches(), SETTINGS)
    def test_a_trimmed_clip_has_the_loudest_frame_and_the_minimum_length(self, clip, trim):
        first, last = non_silent_range(clip, RATE, **trim)
        loudest = int(frame_energies(clip, RATE).argmax()) * FRAME
        assert 0 <= first <= loudest < last <= len(clip)
        assert min(loudest + FRAME, len(clip)) <= last
        assert last - first >= min(len(clip), round(trim["trim_min_seconds"] * RATE))

    @few
    @given(stretches(), SETTINGS, st.integers(-20, 20))
    def test_loudness_does_not_matter(self, clip, trim, exponent):
        scaled = clip * np.float32(2.0**exponent)  # exact for floats
        assert non_silent_range(scaled, RATE, **trim) == non_silent_range(clip, RATE, **trim)

    @few
    @given(stretches(), SETTINGS)
    def test_trimming_twice_is_trimming_once(self, clip, trim):
        once = clip[slice(*non_silent_range(clip, RATE, **trim))]
        assert non_silent_range(once, RATE, **trim) == (0, len(once))

    @few
    @given(st.integers(0, 4000), st.integers(0, 4000), st.integers(800, 3000), st.sampled_from([0.0, 0.02, 0.05]))
    def test_the_margin_of_the_silence_around_a_sound_stays(self, before, after, sound, margin):
        clip = burst(before, sound, after)
        first, last = non_silent_range(clip, RATE, 40.0, margin, 0.025)
        left, right = before - first, last - before - sound
        least = round(margin * RATE)
        # only whole frames are cut, and a frame with a few samples of the sound may be among them
        assert min(before, least) - 8 <= left < least + FRAME
        assert min(after, least) - 8 <= right < least + FRAME

    @few
    @given(stretches(), st.integers(1, 30))
    def test_silence_put_before_a_clip_is_taken_off_again(self, clip, frames):
        trim = {"trim_db": 40.0, "trim_margin": 0.0, "trim_min_seconds": 0.0}
        padded = np.concatenate([np.zeros(frames * FRAME, np.float32), clip])
        if clip.any():
            first, last = non_silent_range(clip, RATE, **trim)
            assert non_silent_range(padded, RATE, **trim) == (first + frames * FRAME, last + frames * FRAME)


class TestFlags:
    def test_nothing_is_trimmed_unless_asked(self):
        assert TrimArguments().trim is None
        assert parse_flags(TrimArguments, [], "").trim is None

    def test_the_settings_are_those_of_the_extractors(self):
        parsed = parse_flags(TrimArguments, ["--trim_db", "30", "--trim_margin", "0"], "")
        assert parsed.trim == {"trim_db": 30.0, "trim_margin": 0.0, "trim_min_seconds": 0.1}

    @pytest.mark.parametrize(
        ("flags", "sentence"),
        [
            ({"trim_db": 0.0}, "expected --trim_db above 0, found 0; usual values are 20 to 60."),
            ({"trim_db": -40.0}, "expected --trim_db above 0, found -40; usual values are 20 to 60."),
            ({"trim_db": float("nan")}, "expected --trim_db above 0, found nan; usual values are 20 to 60."),
            ({"trim_db": float("inf")}, "expected --trim_db above 0, found inf; usual values are 20 to 60."),
            (
                {"trim_db": 40.0, "trim_margin": -0.1},
                "expected --trim_margin of 0 s or more, found -0.1; 0.05 is usual.",
            ),
            (
                {"trim_db": 40.0, "trim_min_seconds": 0.01},
                "expected --trim_min_seconds of 0.025 or more, which encoders need, found 0.01; 0.1 is usual.",
            ),
            (
                {"trim_margin": 0.2},
                "expected --trim_db with --trim_margin 0.2, found none, so that nothing is trimmed; add "
                "--trim_db 40 or leave out --trim_margin.",
            ),
            (
                {"trim_min_seconds": 0.5},
                "expected --trim_db with --trim_min_seconds 0.5, found none, so that nothing is trimmed; add "
                "--trim_db 40 or leave out --trim_min_seconds.",
            ),
        ],
    )
    def test_invalid_values_are_refused(self, flags, sentence):
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            TrimArguments(**flags)


class TestStatistics:
    def test_cuts_of_files_are_in_seconds_at_any_rate(self, tmp_path):
        for label, rate in (("a", 8000), ("b", 48000)):
            (tmp_path / label).mkdir()
            silence = np.zeros(rate // 5)
            clip = np.concatenate([silence, noise(rate // 2), silence, silence])
            soundfile.write(tmp_path / label / "x.wav", clip, rate, subtype="FLOAT")
        cuts = measure_cuts(load_corpus("folder", data_dir=tmp_path).dataset, TRIM)
        assert cuts.files == ("a/x.wav", "b/x.wav")
        assert cuts.seconds == pytest.approx([1.1, 1.1])
        assert cuts.start == pytest.approx([0.15, 0.15])
        assert cuts.end == pytest.approx([0.35, 0.35])

    def test_they_are_counted(self):
        measured = np.array([[2.0, 1.0, 5.0], [0.5, 0.0, 0.0], [0.5, 0.0, 3.0]])
        cuts = Cuts(("a", "b", "c"), *measured)
        assert trim_statistics(cuts) == {
            "clips": 3, "clips_cut": 2, "seconds_before": 8.0, "seconds_after": 4.0, "share_cut": 0.5,
            "mean_cut": pytest.approx(4 / 3), "mean_start": pytest.approx(1 / 6), "mean_end": pytest.approx(3.5 / 3),
            "longest_cut": {"file": "c", "seconds": 3.0}, "shortest_left": 1.0,
        }  # fmt: skip
        assert trim_statistics(cuts.select([0, 1]))["longest_cut"] == {"file": "a", "seconds": 1.0}
