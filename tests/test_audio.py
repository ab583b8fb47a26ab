"""One door for sound: what goes in as a file comes out as mono float32, or as a sentence."""

import io
import pickle
import struct

import numpy as np
import pytest
import soundfile

from hf_vivae.audio import BadAudio, inspect, load, resample

RATE = 44100
TONE = (0.5 * np.sin(2 * np.pi * 441 * np.arange(RATE) / RATE)).astype(np.float32)
REMEDY = "replace the file, or leave out bad clips with --on_bad_audio skip."


def encode(samples=TONE, rate=RATE, format="WAV", subtype=None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def sentence(source, read=load) -> str:
    with pytest.raises(BadAudio) as error:
        read(source, name="a.wav")
    return str(error.value)


FORMATS = [
    ("WAV", "PCM_U8", 1e-2),
    ("WAV", "PCM_16", 1e-4),
    ("WAV", "PCM_24", 1e-6),
    ("WAV", "PCM_32", 1e-6),
    ("WAV", "FLOAT", 0),
    ("WAV", "DOUBLE", 0),
    ("WAVEX", "PCM_16", 1e-4),
    ("RF64", "PCM_16", 1e-4),
    ("W64", "PCM_16", 1e-4),
    ("AIFF", "PCM_16", 1e-4),
    ("AU", "PCM_16", 1e-4),
    ("CAF", "PCM_16", 1e-4),
    ("FLAC", "PCM_16", 1e-4),
    ("OGG", "VORBIS", 0.1),
    ("MP3", "MPEG_LAYER_III", 0.1),
]


@pytest.mark.parametrize(("format", "subtype", "tolerance"), FORMATS)
def test_reads_what_soundfile_reads(format, subtype, tolerance):
    data = encode(format=format, subtype=subtype)
    samples, rate = load(data)
    info = inspect(data)
    assert (samples.dtype, samples.shape, rate) == (np.float32, TONE.shape, RATE)
    assert (info.samples, info.sampling_rate, info.channels, info.duration) == (RATE, RATE, 1, 1.0)
    np.testing.assert_allclose(samples, TONE, atol=tolerance)


@pytest.mark.parametrize(("format", "subtype", "tolerance"), FORMATS)
def test_truncated_files_are_refused(format, subtype, tolerance):
    data = encode(format=format, subtype=subtype)
    with pytest.raises(BadAudio, match=r"^a\.wav: expected .*; replace the file"):
        load(data[: len(data) * 6 // 10], name="a.wav")


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU"])
def test_a_truncated_header_format_is_seen_without_decoding(format):
    data = encode(format=format, subtype="PCM_16")
    assert sentence(data[:-2], inspect).endswith(f"(truncated); {REMEDY}")


def test_a_truncated_wav_is_told_in_bytes():
    data = encode(subtype="PCM_16")
    assert sentence(data[:-1000]) == (
        f"a.wav: expected the 88200 bytes of sound of its header, found only 87200 (truncated); {REMEDY}"
    )


def test_a_cut_mp3_is_told_in_samples():
    data = encode(format="MP3")
    assert "expected the 44100 samples of its header, found only" in sentence(data[: len(data) // 2])


def test_an_mp3_of_unknown_length_is_read():
    file = io.BytesIO()
    noise = 0.3 * np.random.default_rng(0).standard_normal(90000)
    soundfile.write(file, noise, RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=0.5)
    data = file.getvalue()
    without_header = data[data.index(data[:2], data.index(b"Info")) :]
    assert len(load(without_header)[0]) < inspect(without_header).samples


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF])
def test_a_streamed_wav_of_unknown_size_is_read(size):
    data = bytearray(encode(subtype="PCM_16"))
    position = data.index(b"data") + 4
    data[position : position + 4] = struct.pack("<I", size)
    assert len(load(bytes(data))[0]) == RATE


def test_chunks_before_and_after_the_sound_do_not_matter():
    data = encode(subtype="PCM_16")
    odd = b"note" + struct.pack("<I", 3) + b"abc\0"
    body = data[12:36] + odd + data[36:] + odd
    data = b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body
    assert len(load(data)[0]) == RATE
    assert "expected the 88200 bytes" in sentence(data[: -len(odd) - 100])


@pytest.mark.parametrize("read", [load, inspect])
def test_what_is_no_sound_is_named(read, tmp_path):
    assert sentence(b"", read) == f"a.wav: expected sound, found an empty file (0 bytes); {REMEDY}"
    assert sentence(b"dear diary, " * 9, read) == (
        "a.wav: expected WAV, FLAC, OGG, MP3 or another format of libsndfile, "
        f"found no readable audio (format not recognised); {REMEDY}"
    )
    assert sentence(encode(TONE[:0]), read) == f"a.wav: expected at least one sample, found 0 samples; {REMEDY}"
    missing = tmp_path / "b.wav"
    assert sentence(missing, read) == f"a.wav: expected an audio file, found no file at {missing}; {REMEDY}"
    assert sentence({"bytes": None, "path": None}, read) == (
        f"a.wav: expected bytes or a path in the audio column, found neither; {REMEDY}"
    )
    unreadable = tmp_path / "c.wav"
    unreadable.mkdir()
    assert sentence(unreadable, read) == (
        f"a.wav: expected a readable audio file, found an unreadable one (Is a directory); {REMEDY}"
    )


@pytest.mark.parametrize("rate", [8, 999, 768_001])
def test_absurd_rates_are_refused(rate):
    found = f"a.wav: expected a sampling rate of 1000 to 768000 Hz, found {rate} Hz; {REMEDY}"
    assert sentence(encode(rate=rate), inspect) == found


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(value):
    samples = TONE.copy()
    samples[[3, 5]] = value
    expected = f"a.wav: expected finite samples, found 2 NaN or infinite samples; {REMEDY}"
    assert sentence(encode(samples, subtype="FLOAT")) == expected


def test_the_name_of_a_path_is_in_its_error(tmp_path):
    (tmp_path / "S01_empty.wav").write_bytes(b"")
    for source in (tmp_path / "S01_empty.wav", {"bytes": b"", "path": "x/S01_empty.wav"}):
        with pytest.raises(BadAudio, match=r"^S01_empty\.wav: expected sound"):
            inspect(source)


def test_paths_bytes_and_rows_are_the_same(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(encode())
    rows = [path, str(path), {"bytes": None, "path": str(path)}, {"bytes": path.read_bytes(), "path": "gone.wav"}]
    for source in rows:
        np.testing.assert_array_equal(load(source)[0], load(path.read_bytes())[0])


def test_stereo_is_averaged():
    stereo = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    samples, _ = load(encode(stereo, subtype="FLOAT"))
    np.testing.assert_array_equal(samples, TONE / 2)
    assert inspect(encode(stereo)).channels == 2


def test_resampling_keeps_the_tone_and_drops_what_does_not_fit():
    high = np.sin(2 * np.pi * 15000 * np.arange(RATE) / RATE).astype(np.float32)
    samples, rate = load(encode(TONE + high / 2, subtype="FLOAT"), sampling_rate=16000)
    expected = 0.5 * np.sin(2 * np.pi * 441 * np.arange(16000) / 16000)
    assert (rate, samples.shape, samples.dtype) == (16000, (16000,), np.float32)
    np.testing.assert_allclose(samples[500:-500], expected[500:-500], atol=5e-3)


COMMON = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)


@pytest.mark.parametrize("target", [16000, 44100])
@pytest.mark.parametrize("source", [*COMMON, 44101, 22255, 1001, 768_000, 767_999])
def test_filters_stay_small_whatever_rate_a_header_has(source, target, monkeypatch):
    terms = []
    monkeypatch.setattr("torchaudio.functional.resample", lambda samples, *rates: terms.extend(rates) or samples)
    resample(np.zeros(10, dtype=np.float32), source, target)
    if source == target:
        return
    assert max(terms) <= 1000
    asked, taken = source / target, terms[0] / terms[1]
    assert taken == asked if source in COMMON else taken == pytest.approx(asked, rel=1e-4)


def test_a_rare_rate_keeps_the_tone():
    tone = np.sin(2 * np.pi * 440 * np.arange(44101) / 44101).astype(np.float32)
    heard = resample(tone, 44101, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(len(heard)) / 16000)
    assert len(heard) == pytest.approx(16000, abs=1)
    np.testing.assert_allclose(heard[100:-100], expected[100:-100], atol=2e-2)


def test_resampling_to_its_own_rate_changes_nothing():
    assert resample(TONE, 16000, 16000) is TONE


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # soundfile's callbacks cannot raise
@pytest.mark.parametrize("format", sorted({format for format, *_ in FORMATS}))
def test_damage_gives_sound_or_a_sentence(format):
    rng = np.random.default_rng(0)
    data = encode(TONE[:2000], format=format)
    for _ in range(100):
        damaged = bytearray(data)
        for position in rng.integers(0, min(len(data), 200), size=3):
            damaged[position] = rng.integers(256)
        try:
            samples, _ = load(bytes(damaged))
        except BadAudio:
            continue
        assert samples.size
        assert np.isfinite(samples).all()


def test_a_header_that_announces_terabytes_is_refused():
    data = bytearray(encode(format="FLAC", subtype="PCM_16"))
    data[21:26] = bytes([data[21] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])
    assert sentence(bytes(data)).startswith("a.wav: expected sound that decodes to its end, found damaged sound (")


def test_errors_cross_processes():
    error = BadAudio("a.wav", "sound", "silence")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.name, again.expected, again.found) == (str(error), "a.wav", "sound", "silence")
