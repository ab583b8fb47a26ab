"""Copies of EmoGator for tests: names of a few speakers with a very short MP3 each, as a folder or an archive."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import soundfile

FEW = 4  # speakers, in place of 357
VIVAE_NUMBERS = (3, 12, 15, 19, 28, 30)  # of the categories nearest to VIVAE's labels


def mp3(samples: np.ndarray, rate: int = 48000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="MP3", subtype="MPEG_LAYER_III")
    return file.getvalue()


CLIP = mp3(0.1 * np.sin(np.arange(4800) / 5))


def names_of(speakers=range(1, FEW + 1), numbers=VIVAE_NUMBERS, takes=(1, 2, 3)) -> list[str]:
    return [f"{speaker:06}-{number:02}-{take}.mp3" for speaker in speakers for number in numbers for take in takes]


def tagged(name: str, clip: bytes = CLIP) -> bytes:
    """The clip with a tag that has its name, so that no two files are equal."""
    return clip + b"TAG" + name.encode().ljust(125, b"\0")


def write_folder(root: Path, names: list[str]) -> Path:
    """The clips two folders deep, next to files of the repository that are no clips."""
    (root / "data" / "mp3").mkdir(parents=True)
    (root / "README.md").write_text("EmoGator")
    for name in names:
        (root / "data" / "mp3" / name).write_bytes(tagged(name))
    return root


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tar_of(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
