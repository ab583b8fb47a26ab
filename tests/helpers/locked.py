"""Files and folders without permission to read, also for root."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deny reading a file, or a folder with its content, as the system does for users other than root."""
    path = path.absolute()

    def denying(function: Callable, of_itself: bool) -> Callable:
        def call(target, *args, **kwargs):
            if isinstance(target, str | os.PathLike):
                requested = Path(target).absolute()
                if path in requested.parents or (requested == path and of_itself):
                    raise PermissionError(13, "Permission denied", str(target))
            return function(target, *args, **kwargs)

        return call

    for module, name in ((io, "open"), (os, "listdir"), (os, "scandir"), (os, "stat"), (os, "lstat")):
        monkeypatch.setattr(module, name, denying(getattr(module, name), of_itself="stat" not in name))
