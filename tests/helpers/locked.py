"""Files and folders that may not be read, also for root, who may read all."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deny the reading of a file, or of a folder and all that lies in it, as the system does to who is not root."""
    path = path.absolute()

    def denying(function: Callable, of_itself: bool) -> Callable:
        def call(target, *args, **kwargs):
            if isinstance(target, str | os.PathLike):
                asked = Path(target).absolute()
                if path in asked.parents or (asked == path and of_itself):
                    raise PermissionError(13, "Permission denied", str(target))
            return function(target, *args, **kwargs)

        return call

    for module, name in ((io, "open"), (os, "listdir"), (os, "scandir"), (os, "stat"), (os, "lstat")):
        monkeypatch.setattr(module, name, denying(getattr(module, name), of_itself="stat" not in name))
