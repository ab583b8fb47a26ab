"""Lengths that sound files announce, read from their bytes: libsndfile takes truncated files without a word.

All functions take an open file, whose place they leave anywhere unless they say where.
"""

from __future__ import annotations

import math
import re
import struct
from typing import BinaryIO

OGG_FIRST, OGG_LAST = 2, 4  # flags of a page
NIST_FIELD = re.compile(rb"^(\w+) -i (\d{1,18})", re.MULTILINE)
NIST_FACTORS = (b"sample_count", b"channel_count", b"sample_n_bytes")
FLAC_START = b"fLaC\0\0\0\x22"  # the marker, and the head of the first block, of 34 bytes
ID3V1_BYTES, APE_BYTES = 128, 32
PIECE = 2**20  # bytes


def sound_bytes(file: BinaryIO) -> tuple[int, int]:
    """Return bytes of sound that the header of a WAV, RF64, AIFF, AU, W64 or NIST SPHERE declares, and bytes there.

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
    if head[:8] == b"NIST_1A\n" and head[8:16].strip().isdigit():  # lines of text up to where the sound begins
        start = int(head[8:16])
        fields = dict(NIST_FIELD.findall(_read(file, 16, start)))
        return math.prod(int(fields.get(name, 0)) for name in NIST_FACTORS), size - start
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


def has_second_flac(file: BinaryIO) -> bool:
    """Return whether a FLAC file holds another one, of which libsndfile does not decode a sample."""
    file.seek(_id3_bytes(file) + len(FLAC_START))
    rest = b""
    while piece := file.read(PIECE):
        if FLAC_START in (rest := rest + piece):
            return True
        rest = rest[1 - len(FLAC_START) :]
    return False


def mp3_announces(file: BinaryIO) -> bool:
    """Return whether the first frame of an MP3 announces how many follow (a Xing or Info frame)."""
    head = _read(file, _id3_bytes(file), 64)
    for tag in (b"Xing", b"Info"):
        if (place := head.find(tag)) > 0:
            return bool(head[place + 7] & 1)  # flags of 4 bytes, of which the lowest stands for the number of frames
    return False


def skip_tags(file: BinaryIO) -> None:
    """Move on behind tags of ID3v1, ID3v2 and APE at the place of a file, of which any number may come in a row."""
    while True:
        place = file.tell()
        length, head = _id3_bytes(file, place), _read(file, place, 16)
        if head[:3] == b"TAG":
            length = ID3V1_BYTES
        elif head[:8] == b"APETAGEX" and len(head) == 16:
            length = APE_BYTES + int.from_bytes(head[12:], "little")
        file.seek(place + length)
        if not length:
            return


def _id3_bytes(file: BinaryIO, place: int = 0) -> int:
    """Length of a tag of ID3v2 at a place of a file, which FLAC and MP3 may have before the sound."""
    head = _read(file, place, 10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    length = 0
    for byte in head[6:]:
        length = length << 7 | byte & 0x7F
    return 10 + length


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)
