"""Copies of VIVAE for tests: its 1085 names with a very short sound each, as a folder or an archive."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_vivae.corpus import CorpusError
from hf_vivae.corpus.manifest import read_manifest
from hf_vivae.corpus.vivae import read_vivae

NAMES = [row["file_name"] for row in read_manifest()]


def wave(rate=44100, channels=1, seconds=0.05, subtype="PCM_16", value=0.1) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full((int(rate * seconds), channels), value), rate, format="WAV", subtype=subtype)
    return file.getvalue()


CLIP = wave()


def spoil(root: Path, name: str, content: bytes | None) -> None:
    (root / "full_set" / name).unlink(missing_ok=True)
    if content is not None:
        (root / "full_set" / name).write_bytes(content)


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def archived(path: Path, root: Path) -> Path:
    return zip_of(path, {file.relative_to(root.parent).as_posix(): file.read_bytes() for file in root.rglob("*.wav")})


def error_of(*arguments, **options) -> CorpusError:
    with pytest.raises(CorpusError) as error:
        read_vivae(*arguments, **options)
    return error.value
