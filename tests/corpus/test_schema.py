"""Files of a folder: those that can be read to their end, in a fixed order."""

import os
import socket

import pytest

from hf_vivae.corpus.schema import walk_files
from hf_vivae.validation import UserError


def test_only_what_has_an_end_is_walked(tmp_path, monkeypatch):
    """Reading a pipe waits for a writer, /dev/zero never ends; a link to nothing is for its reader to name."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "clip.wav").touch()
    (tmp_path / "link.wav").symlink_to("sub/clip.wav")
    (tmp_path / "nothing.wav").symlink_to("gone.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.wav")
    monkeypatch.chdir(tmp_path)  # paths of sockets must be short
    with socket.socket(socket.AF_UNIX) as open_socket:
        open_socket.bind("socket.wav")
        walked = [file.relative_to(tmp_path).as_posix() for file in walk_files(tmp_path)]
    assert walked == ["link.wav", "nothing.wav", "sub/clip.wav"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """The library passes over it, and its clips would be missing."""
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def deny(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(UserError, match=r"expected a folder that can be read at .*closed, found one that cannot"):
        list(walk_files(tmp_path))
