"""Lengths that sound files announce, read from their bytes: libsndfile takes truncated files without a word.

All functions take an open file, whose place they leave anywhere, and read headers only.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

OGG_FIRST, OGG_LAST = 2, 4  # flags of a page


def sound_bytes(file: BinaryIO) -> tuple[int, int]:
    """Return bytes of sound that the header of a WAV, RF64, AIFF, AU or W64 declares, and bytes that are there.

    Both are 0 where the format, or this file, does not say.
    """
    size = file.seek(0, 2)
    head = _read(file, 0, 24)
    magic = head[:4]
    if magic in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        return _chunk_bytes(file, size, ">" if magic in (b"RIFX", b"FORM") else "<")
    if magic == b".snd" and len(head) >= 12:  # AU: offset and size of the sound
        offset, declared = struct.unpack(">II", head[4:12])
        return declared, size - offset
    if magic == b"riff" and len(head) == 24:  # Sony Wave64: size of the whole file
        return struct.unpack("<Q", head[16:])[0], size
    return 0, 0


def _chunk_bytes(file: BinaryIO, size: int, order: str) -> tuple[int, int]:
    position, long_size = 12, 0
    while len(head := _read(file, position, 8)) == 8:
        identifier, length = struct.unpack(f"{order}4sI", head)
        position += 8
        if identifier in (b"data", b"SSND"):
            return long_size or length, size - position
        if identifier == b"ds64" and len(sizes := _read(file, position, 16)) == 16:
            long_size = struct.unpack("<Q", sizes[8:])[0]  # RF64 keeps the 64-bit size of `data` here
        position += length + length % 2
    return 0, 0


def ogg_fault(file: BinaryIO) -> str | None:
    """Return why an Ogg file does not hold one whole stream, or None where it does.

    The last page of a stream is marked as such, and libsndfile takes the length from whichever page comes last. Of
    streams one after another, which is allowed, it decodes the first and does not mention the others.
    """
    size, position, flags, ended = file.seek(0, 2), 0, 0, False
    # what follows the last page may be tags or filling
    while len(head := _read(file, position, 27)) == 27 and head[:5] == b"OggS\0":
        flags = head[5]
        if ended and flags & OGG_FIRST:
            return "several streams one after another"
        ended = ended or bool(flags & OGG_LAST)
        position += 27 + head[26] + sum(file.read(head[26]))
    if position > size or not flags & OGG_LAST:
        return f"none within {size} bytes (truncated or damaged)"
    return None


def flac_samples(file: BinaryIO) -> tuple[int, int] | None:
    """Return where a FLAC file keeps its number of samples per channel, of 36 bits in 5 bytes, and the number.

    It is 0 where the writer did not know. None for other files.
    """
    start = _id3_bytes(file)
    head = _read(file, start, 26)
    if head[:4] != b"fLaC" or head[4] & 0x7F or len(head) < 26:  # the first block has type 0
        return None
    return start + 21, int.from_bytes(head[21:], "big") & 0xFFFFFFFFF


def mp3_announces(file: BinaryIO) -> bool:
    """Return whether the first frame of an MP3 announces how many follow (a Xing or Info frame)."""
    head = _read(file, _id3_bytes(file), 64)
    for tag in (b"Xing", b"Info"):
        if (place := head.find(tag)) > 0:
            return bool(head[place + 7] & 1)  # flags of 4 bytes, of which the lowest stands for the number of frames
    return False


def _id3_bytes(file: BinaryIO) -> int:
    """Length of a tag of ID3v2 before the sound, which FLAC and MP3 may have."""
    head = _read(file, 0, 10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    length = 0
    for byte in head[6:]:
        length = length << 7 | byte & 0x7F
    return 10 + length


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)
