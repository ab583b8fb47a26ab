"""Small disks."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class Disk:
    """A disk of its own in memory, that can be filled and made read-only."""

    def __init__(self, folder: Path, kilobytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        self._run("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))

    def fill(self, leave: int = 0) -> None:
        """Take all room but so many bytes."""
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
        (self.folder / "filler").write_bytes(bytes(max(0, free - leave)))

    def make_room(self) -> None:
        (self.folder / "filler").unlink()

    def make_read_only(self) -> None:
        self._run("mount", "-o", "remount,ro", str(self.folder))

    def unmount(self) -> None:
        self._run("umount", "--lazy", str(self.folder))

    @staticmethod
    def _run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def make_disk(tmp_path) -> Iterator:
    """Mounts a disk of so many kilobytes; only root may."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disks = []

    def make(kilobytes: int) -> Disk:
        try:
            disks.append(Disk(tmp_path / f"disk{len(disks)}", kilobytes))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no small disk can be mounted here ({error.stderr.decode().strip()})")
        return disks[-1]

    yield make
    for disk in disks:
        disk.unmount()
