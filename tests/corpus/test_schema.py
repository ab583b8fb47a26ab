"""The files of a folder in a fixed order, without pipes and devices."""

import os
import socket

import pytest

from hf_vivae.files import walk_files
from hf_vivae.validation import UserError


def test_pipes_and_devices_are_left_out(tmp_path, monkeypatch):
    """Reading a pipe waits for a writer, /dev/zero never ends; a link without a target is left to the caller."""
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
    """`os.walk` skips such a folder by default, and its clips would be missing."""
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def deny(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(UserError, match=r"expected a folder that can be read at .*closed, found one that cannot"):
        list(walk_files(tmp_path))
