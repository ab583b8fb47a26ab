"""Damages sound files by a numbered generator each and reads them; `fuzzing.py PACKAGE COUNT [FIRST]`.

`audio.py` is loaded without the rest of its package, since torch would take more address space than it is limited to.
The number of the file under way is printed first: `fuzzing.py PACKAGE 1 NUMBER` repeats one.
"""

import importlib
import io
import re
import resource
import struct
import sys
import types
from pathlib import Path

import numpy as np
import soundfile

GIGABYTE = 10**9
SEEDS = [
    ("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"),
    ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip
HEADER = 128  # bytes, which hold the sizes, rates and counts of all these formats
# where 8, 16, 32 and 64 bits change their sign, are full, or nearly empty
EDGES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]


def make_seeds() -> list[bytes]:
    """One short file of each kind, mono or stereo."""
    rng, files = np.random.default_rng(0), []
    for number, (format, subtype) in enumerate(SEEDS):
        file = io.BytesIO()
        sound = rng.uniform(-0.5, 0.5, (3000, 1 + number % 2))
        soundfile.write(file, sound, 44100, format=format, subtype=subtype)
        files.append(file.getvalue())
    return files


def flip_bytes(data: bytearray, rng: np.random.Generator, end: int) -> bytearray:
    for position in rng.integers(0, min(end, len(data)), rng.integers(1, 9)):
        data[position] = rng.integers(256)
    return data


def put_number(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A number from the edges of its type, in either order of bytes, into the header."""
    size, order = rng.choice([1, 2, 4, 8]), rng.choice(["little", "big"])
    place, value = rng.integers(0, min(HEADER, len(data) - size)), EDGES[rng.integers(len(EDGES))]
    data[place : place + size] = (value % 256 ** int(size)).to_bytes(int(size), str(order))
    return data


def change_length(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Cut at the end or in the middle, or with bytes or a part of itself added."""
    start, end = sorted(rng.integers(0, len(data), 2))
    part = bytes(data[start:end])
    kinds = (data[:end], data[:start] + data[end:], data + rng.bytes(len(part)), data[:end] + part + data[end:])
    return bytearray(kinds[rng.integers(len(kinds))])


def announce(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Sizes of chunks that a WAV has, or FLAC's number of samples, made enormous."""
    if data[:4] == b"fLaC":
        data[21:26] = bytes([data[21] | 0x0F, *rng.bytes(4)])
    elif (place := data.find(b"data")) > 0:
        data[place + 4 : place + 8] = struct.pack("<I", rng.integers(2**32))
    return flip_bytes(data, rng, HEADER)


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """A file with one to three kinds of damage, to header, length and body."""
    changed = bytearray(data)
    kinds = (
        lambda: flip_bytes(changed, rng, HEADER),
        lambda: flip_bytes(changed, rng, len(changed)),
        lambda: put_number(changed, rng),
        lambda: change_length(changed, rng),
        lambda: announce(changed, rng),
    )
    for kind in rng.integers(0, len(kinds), rng.integers(1, 4)):
        if len(changed) > 16:
            changed = kinds[kind]()
    return bytes(changed)


def main(package: str, count: str, first: str = "0") -> None:
    sys.modules["hf_vivae"] = types.ModuleType("hf_vivae")
    sys.modules["hf_vivae"].__path__ = [package]
    audio = importlib.import_module("hf_vivae.audio")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIGABYTE, used + GIGABYTE))
    seeds, decoded, refused = make_seeds(), 0, 0
    for number in range(int(first), int(first) + int(count)):
        print(number, flush=True)
        rng = np.random.default_rng((1, number))
        data = damage(seeds[number % len(seeds)], rng)
        try:
            samples, rate = audio.load(data, name="clip")
        except audio.BadAudio as error:
            refused += str(error).startswith("clip: expected ")
        else:
            assert samples.ndim == 1, samples.shape
            assert samples.size
            assert samples.dtype == np.float32
            assert np.isfinite(samples).all()
            assert audio.MIN_RATE <= rate <= audio.MAX_RATE
            with audio.open_sound(data) as sound:
                pieces = list(iter(lambda: tuple(sound.read(1000)), ()))
            assert sum(pieces, ()) == tuple(samples), "in pieces as in one"
            decoded += 1
    assert decoded + refused == int(count), "each refusal names the clip"
    # of this program alone: `ru_maxrss` would begin with what its parent had
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024
    print(f"files={count} decoded={decoded} refused={refused} peak_mb={peak}")


if __name__ == "__main__":
    main(*sys.argv[1:])
