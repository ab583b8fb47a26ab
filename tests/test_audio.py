"""One door for sound: what goes in as a file comes out as mono float32, or as a sentence."""

import contextlib
import io
import os
import pickle
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from hf_vivae import audio
from hf_vivae.audio import BadAudio, inspect, load, open_sound, resample

RATE = 44100
TONE = (0.5 * np.sin(2 * np.pi * 441 * np.arange(RATE) / RATE)).astype(np.float32)
ID3V2 = b"ID3\x04\0\0\0\0\1\2" + bytes(130)
REMEDY = "replace the file."


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
    ("NIST", "PCM_16", 1e-4),
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


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST"])
def test_a_truncated_header_format_is_seen_without_decoding(format):
    data = encode(format=format, subtype="PCM_16")
    assert sentence(data[:-2], inspect).endswith(f"(truncated); {REMEDY}")


def test_the_refusal_of_a_truncated_wav_gives_bytes():
    data = encode(subtype="PCM_16")
    assert sentence(data[:-1000]) == (
        f"a.wav: expected the 88200 bytes of sound of its header, found only 87200 (truncated); {REMEDY}"
    )


def test_the_refusal_of_a_cut_mp3_gives_samples():
    data = encode(format="MP3")
    assert "expected the 44100 samples of its header, found only" in sentence(data[: len(data) // 2])


def test_a_tag_that_ends_the_start_of_an_mp3_gives_no_length():
    """The flags of a Xing frame are 4 bytes; here the 64 bytes that are searched end before the last one."""
    data = bytearray(encode(np.random.default_rng(0).uniform(-0.3, 0.3, RATE), format="MP3"))
    start = max(data.find(b"Xing"), data.find(b"Info"))
    data[start : start + 4], data[57:61] = bytes(4), b"Xing"
    assert "expected the length of an MP3 of variable bit rate in its header" in sentence(bytes(data))


OGGS = [("OGG", "VORBIS"), ("OGG", "OPUS")]


@pytest.mark.parametrize("read", [load, inspect])
@pytest.mark.parametrize(("format", "subtype"), OGGS)
def test_an_ogg_without_its_last_page_is_refused(format, subtype, read):
    """The decoder takes the length from whichever page is the last one."""
    data = encode(np.tile(TONE, 8), 48000, format, subtype)
    last = data.rindex(b"OggS")
    assert last > len(data) // 2
    for end in (len(data) // 2, last, last + 20, len(data) - 1):
        assert "expected the last page of one stream, found none within" in sentence(data[:end], read)
    np.testing.assert_array_equal(load(data + bytes(1000))[0], load(data)[0])


@pytest.mark.parametrize(("format", "subtype"), OGGS)
def test_a_second_stream_in_an_ogg_is_not_dropped_in_silence(format, subtype):
    data = encode(rate=48000, format=format, subtype=subtype)
    assert "the last page of one stream, found several streams one after another" in sentence(data + data)


def set_samples(data: bytes, samples: int, start: int = 0) -> bytes:
    """A FLAC whose header announces another number of samples."""
    field = slice(start + 18, start + 26)
    value = int.from_bytes(data[field], "big") >> 36 << 36 | samples
    return data[: start + 18] + value.to_bytes(8, "big") + data[start + 26 :]


@pytest.mark.parametrize("tag", [b"", ID3V2])
def test_a_flac_of_unknown_length_is_read(tag):
    """Programs that write to a pipe announce no samples."""
    whole = encode(format="FLAC", subtype="PCM_16")
    data = set_samples(tag + whole, 0, len(tag))
    np.testing.assert_array_equal(load(data)[0], load(whole)[0])
    assert inspect(data) == inspect(whole)
    assert sentence(whole[:4] + b"\x80" + whole[5:42]).startswith("a.wav: expected ")  # the header alone


def test_a_flac_with_another_number_of_samples_than_announced_is_refused():
    data = encode(format="FLAC", subtype="PCM_16")
    assert "the 1000 samples of its header, found more than these" in sentence(set_samples(data, 1000))
    assert "the 44101 samples of its header, found only 44100 samples" in sentence(set_samples(data, RATE + 1))
    for tag in (b"TAG" + bytes(125), ID3V2, bytes(5000)):
        np.testing.assert_array_equal(load(data + tag)[0], load(data)[0])


@pytest.mark.parametrize("between", [b"", ID3V2])
def test_a_second_flac_in_the_same_file_is_not_dropped_in_silence(between):
    data = encode(format="FLAC", subtype="PCM_16")
    for first in (data, ID3V2 + data):
        assert "the 44100 samples of its header, found more than these" in sentence(first + between + data)
    assert "found damaged sound" in sentence(set_samples(data, 0) + between + data)


def encode_mp3(samples: np.ndarray, mode: str, announce: bool = True) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="MP3", bitrate_mode=mode, compression_level=0.3)
    data = file.getvalue()
    tag = b"Info" if mode == "CONSTANT" else b"Xing"
    return data if announce else data[data.index(data[:2], data.index(tag)) :]


LOUD_FIRST = 0.3 * np.random.default_rng(0).standard_normal(4 * RATE) * np.repeat([1, 0], 2 * RATE)


@pytest.mark.parametrize(
    ("samples", "mode"), [(LOUD_FIRST, "CONSTANT"), (LOUD_FIRST[::-1], "CONSTANT"), (LOUD_FIRST[::-1], "VARIABLE")]
)
def test_an_mp3_that_does_not_announce_its_length_is_read_to_its_end(samples, mode):
    """The decoder estimates it by the first bit rate, up to four times too high."""
    data = encode_mp3(samples, mode, announce=False)
    decoded = load(data)[0]
    assert len(samples) <= len(decoded) < len(samples) + 3 * 1152
    assert inspect(data).samples == len(decoded)


def test_an_mp3_whose_length_is_estimated_too_low_is_refused():
    noise = 0.2 * np.random.default_rng(0).standard_normal((4 * RATE, 2))
    assert len(load(encode_mp3(noise, "VARIABLE"))[0]) == 4 * RATE
    cut = encode_mp3(noise, "VARIABLE", announce=False)
    assert sentence(cut).endswith("found none; let ffmpeg write the file again.")


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_a_second_mp3_in_the_same_file_is_not_dropped_in_silence(mode):
    data = encode_mp3(LOUD_FIRST, mode)
    ape = b"APETAGEX" + struct.pack("<II", 2000, 5000) + bytes(5016)
    id3v1 = b"TAG" + bytes(125)
    for tags in (b"", ID3V2, ID3V2 * 2, id3v1, id3v1 + ID3V2, ape + id3v1 + ID3V2):
        assert "the 176400 samples of its header, found more than these" in sentence(data + tags + data)
        assert len(load(data + tags)[0]) == len(LOUD_FIRST)
    assert len(load(data + b"APETAGEX" + bytes(9000))[0]) == len(LOUD_FIRST)


@pytest.mark.parametrize(("format", "subtype", "tolerance"), FORMATS)
def test_pieces_are_the_whole(format, subtype, tolerance):
    """After each read the library would seek, after which an MP3 has a gap."""
    data = encode(np.stack([TONE, TONE[::-1]], axis=1), format=format, subtype=subtype)
    with open_sound(data) as sound:
        pieces = [sound.read(9999) for _ in range(6)]
    assert [len(piece) for piece in pieces] == [9999, 9999, 9999, 9999, 4104, 0]
    np.testing.assert_array_equal(np.concatenate(pieces), load(data)[0])


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
        "found no readable audio (format not recognised); "
        "replace the file, or convert a film or another format with ffmpeg -i FILE sound.wav."
    )
    assert sentence(encode(TONE[:0]), read) == f"a.wav: expected at least one sample, found 0 samples; {REMEDY}"
    missing = tmp_path / "b.wav"
    assert sentence(missing, read) == f"a.wav: expected an audio file, found no file at {missing}; check the path."
    assert sentence({"bytes": None, "path": None}, read) == (
        f"a.wav: expected bytes or a path in the audio column, found neither; {REMEDY}"
    )
    unreadable = tmp_path / "c.wav"
    unreadable.mkdir()
    assert sentence(unreadable, read) == (
        f"a.wav: expected a readable audio file, found an unreadable one (Is a directory); {REMEDY}"
    )


@pytest.mark.parametrize("read", [load, inspect])
def test_pipes_sockets_and_devices_are_refused_unopened(read, tmp_path, monkeypatch):
    """A pipe would be waited for, and /dev/zero never ends."""
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "device.wav").symlink_to("/dev/null")
    monkeypatch.chdir(tmp_path)  # paths of sockets must be short
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("opened"))
    with socket.socket(socket.AF_UNIX) as open_socket:
        open_socket.bind("socket.wav")
        for kind in ("pipe", "device", "socket"):
            found = "a.wav: expected an audio file, found a pipe, socket or device; check the path."
            assert sentence(f"{kind}.wav", read) == found


def test_the_bytes_decide_the_format_not_the_name(tmp_path):
    (tmp_path / "a.raw").write_bytes(encode())
    np.testing.assert_array_equal(load(tmp_path / "a.raw")[0], load(encode())[0])
    (tmp_path / "b.raw").write_bytes(bytes(1000))
    assert "no readable audio" in sentence(tmp_path / "b.raw")


@pytest.mark.parametrize("samples", [0, 300])
@pytest.mark.parametrize(("format", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16")])
def test_clips_that_would_fill_the_memory_are_refused(format, subtype, samples, monkeypatch):
    """Seconds alone are no limit: a minute can have 8 channels at 655,350 Hz."""
    data = encode(np.zeros((300, 8)), 1000, format, subtype)
    if format == "FLAC":
        data = set_samples(data, samples)
    monkeypatch.setattr(audio, "MAX_DECODED", 4 * 8 * 300)
    assert len(load(data)[0]) == 300
    monkeypatch.setattr(audio, "MAX_DECODED", 4 * 8 * 300 - 1)
    assert "expected a clip of up to 0.299 s at 8 x 1000 Hz, found" in sentence(data)


def test_an_error_of_the_disk_is_no_truncated_file(monkeypatch):
    class Failing(io.BytesIO):
        def readinto(self, buffer):
            if self.tell() > 1000:
                raise OSError(5, "Input/output error")
            return super().readinto(buffer)

    monkeypatch.setattr(audio, "_open_file", lambda source, name: (Failing(source), name, None))
    found = f"a.wav: expected a readable audio file, found an unreadable one (Input/output error); {REMEDY}"
    assert sentence(encode()) == found


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


@pytest.mark.parametrize("samples", [1, 7, 30_000])
@pytest.mark.parametrize(("source", "target"), [(48000, 44100), (48000, 16000), (44100, 16000), (8000, 44100)])
def test_resampling_is_that_of_torchaudio(source, target, samples):
    clip = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    expected = torchaudio.functional.resample(torch.from_numpy(clip), source, target).numpy()
    resampled = resample(clip, source, target)
    assert (resampled.shape, resampled.dtype) == (expected.shape, np.float32)
    np.testing.assert_allclose(resampled, expected, atol=2e-6)


@pytest.mark.parametrize("target", [16000, 44100])
@pytest.mark.parametrize("source", [*COMMON, 44101, 22255, 1001, 768_000, 767_999])
def test_filters_stay_small_whatever_rate_a_header_has(source, target, monkeypatch):
    if source == target:
        return
    terms = []
    monkeypatch.setattr(audio, "_sinc_filters", lambda *rates: terms.extend(rates) or (torch.zeros(20, rates[1]), 5))
    resample(np.zeros(10, dtype=np.float32), source, target)
    assert max(terms) <= 1000
    asked, taken = source / target, terms[0] / terms[1]
    assert taken == asked if source in COMMON else taken == pytest.approx(asked, rel=1e-4)


def test_a_rare_rate_keeps_the_tone():
    tone = np.sin(2 * np.pi * 440 * np.arange(44101) / 44101).astype(np.float32)
    resampled = resample(tone, 44101, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(len(resampled)) / 16000)
    assert len(resampled) == pytest.approx(16000, abs=1)
    np.testing.assert_allclose(resampled[100:-100], expected[100:-100], atol=2e-2)


def test_resampling_to_its_own_rate_changes_nothing():
    assert resample(TONE, 16000, 16000) is TONE
    assert np.array_equal(resample(TONE, 16000, 16000, 100), TONE[:100])


@pytest.mark.parametrize(("source", "target"), [(48000, 44100), (44100, 16000), (8000, 44100), (44101, 16000)])
@pytest.mark.parametrize("count", [1, 147, 148, 9999, 10**6])
def test_the_first_samples_are_those_of_the_whole_clip(source, target, count):
    whole, part = resample(TONE, source, target), resample(TONE, source, target, count)
    assert len(part) == min(count, len(whole))
    np.testing.assert_allclose(part, whole[:count], atol=1e-6)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")  # tracebacks from callbacks of C
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
    assert sentence(bytes(data)).startswith("a.wav: expected a clip of up to 1522 s at 1 x 44100 Hz, found one of ")


def damaged_mp3() -> bytes:
    """An MP3 for whose damage libsndfile's decoder prints lines."""
    data = bytearray(encode(format="MP3"))
    data[2000:2100] = bytes(100)
    data[5000:6000] = b"x" * 1000
    return bytes(data)


def test_messages_of_the_mp3_decoder_do_not_reach_the_terminal(capfd):
    data = damaged_mp3()
    with contextlib.suppress(soundfile.SoundFileError):
        soundfile.read(io.BytesIO(data))
    assert "Note: " in capfd.readouterr().err, "the test would pass whatever is done"
    with contextlib.suppress(BadAudio):
        load(data)
    with contextlib.suppress(BadAudio):
        inspect(data[:3000] + data[3100:])
    assert capfd.readouterr().err == ""
    with contextlib.suppress(soundfile.SoundFileError):
        soundfile.read(io.BytesIO(data))
    assert "Note: " in capfd.readouterr().err, "only while a clip is read here"


def test_other_messages_reach_the_terminal_while_an_mp3_is_decoded(capfd):
    with audio.QUIET.messages_off():
        os.write(2, b"a warning of another thread")
    assert capfd.readouterr().err == "a warning of another thread"


def test_messages_return_with_the_last_of_several_threads(capfd):
    def decode() -> str:
        with contextlib.suppress(soundfile.SoundFileError):
            soundfile.read(io.BytesIO(damaged_mp3()))
        return capfd.readouterr().err

    with contextlib.ExitStack() as first:
        with contextlib.ExitStack() as second:
            first.enter_context(audio.QUIET.messages_off())
            second.enter_context(audio.QUIET.messages_off())
        assert decode() == ""
    assert decode()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_made_during_decoding_has_its_messages(capfd):
    with audio.QUIET.messages_off():
        pid = os.fork()
        if not pid:
            with contextlib.suppress(soundfile.SoundFileError):
                soundfile.read(io.BytesIO(damaged_mp3()))
            os._exit(0)
        os.waitpid(pid, 0)
        assert "Note: " in capfd.readouterr().err


def test_errors_cross_processes():
    error = BadAudio("a.wav", "sound", "silence")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.name, again.expected, again.found) == (str(error), "a.wav", "sound", "silence")


class TestParts:
    """A path with a media fragment stands for that part of the file."""

    @pytest.mark.parametrize(("format", "subtype", "_"), [*FORMATS, ("OGG", "OPUS", 0), ("WAV", "IMA_ADPCM", 0)])
    def test_a_part_has_the_samples_of_the_whole_file(self, tmp_path, format, subtype, _):
        rate, rng = 16000, np.random.default_rng(0)
        (tmp_path / "x").write_bytes(encode(rng.uniform(-0.5, 0.5, (3 * rate, 2)), rate, format, subtype))
        whole, _ = load(tmp_path / "x")
        for start, end in ((0, 0.025), (1.2345, 2.5), (2.75, 3)):
            source = f"{tmp_path / 'x'}#t={start},{end}"
            expected = whole[round(start * rate) : round(end * rate)]
            samples, rate_of_part = load(source)
            # MP3 and Vorbis in float arithmetic
            np.testing.assert_allclose(samples, expected, atol=1e-6)
            assert rate_of_part == rate
            assert inspect({"bytes": None, "path": source}) == audio.ClipInfo(len(expected), rate, 2)

    def test_an_mp3_without_its_length_is_decoded_to_the_part(self, tmp_path):
        (tmp_path / "x.mp3").write_bytes(encode_mp3(LOUD_FIRST[::-1], "CONSTANT", announce=False))
        whole, _ = load(tmp_path / "x.mp3")
        samples, _ = load(f"{tmp_path / 'x.mp3'}#t=2.5,2.75")
        np.testing.assert_array_equal(samples, whole[RATE * 5 // 2 : RATE * 11 // 4])
        assert sentence(f"{tmp_path / 'x.mp3'}#t=4.5,4.75") == (
            "a.wav: expected a part within the file, found 4.500 to 4.750 s; correct its times."
        )

    def test_a_flac_without_its_length_is_decoded_to_the_part(self, tmp_path):
        data = bytearray(encode(format="FLAC"))
        data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
        (tmp_path / "x.flac").write_bytes(data)
        whole, _ = load(tmp_path / "x.flac")
        samples, _ = load(f"{tmp_path / 'x.flac'}#t=0.5,0.75")
        np.testing.assert_array_equal(samples, whole[RATE // 2 : RATE * 3 // 4])

    @pytest.mark.parametrize("times", ["0.5,1.03", "1.2,1.3", "0.5,0.5", "0.6,0.5", "1,1.01"])
    def test_times_outside_of_the_file_are_refused(self, tmp_path, times):
        (tmp_path / "x.wav").write_bytes(encode())
        start, end = (f"{float(time):.3f}" for time in times.split(","))
        assert sentence(f"{tmp_path / 'x.wav'}#t={times}", inspect) == (
            f"a.wav: expected a part within its 1.000 s, found {start} to {end} s; correct its times."
        )

    def test_an_end_that_was_rounded_is_that_of_the_file(self, tmp_path):
        (tmp_path / "x.wav").write_bytes(encode())
        assert len(load(f"{tmp_path / 'x.wav'}#t=0.5,1.019")[0]) == RATE // 2

    def test_a_file_of_that_name_is_taken_whole(self, tmp_path):
        (tmp_path / "x.wav").write_bytes(encode())
        (tmp_path / "x.wav#t=0,0.5").write_bytes(encode(TONE[:100]))
        assert len(load(tmp_path / "x.wav#t=0,0.5")[0]) == 100
        assert len(load(tmp_path / "x.wav#t=0,0.25")[0]) == RATE // 4

    def test_a_part_of_an_absent_file_is_named_with_its_path(self, tmp_path):
        with pytest.raises(
            BadAudio, match=f"^x.wav#t=0,1: expected an audio file, found no file at {tmp_path}/x.wav; "
        ):
            load(tmp_path / "x.wav#t=0,1")

    def test_only_the_part_is_limited_in_length(self, tmp_path):
        (tmp_path / "x.wav").write_bytes(encode())
        assert len(load(f"{tmp_path / 'x.wav'}#t=0.5,0.75", max_seconds=0.3)[0]) == RATE // 4
