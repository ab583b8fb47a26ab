"""The version of this package, and the import of the compiled packages which it needs.

Their metadata do not ensure that they are compatible: torchaudio pins no torch, so that pip installs pairs whose
import raises, and transformers hides the reason ("Could not import module 'Trainer'"). OpenMP, whose threads torch
uses on CPUs, reads its settings when torch is loaded, and only then.
"""

import gc
import importlib
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

__version__ = "0.1.0"

# module of each package that is imported as a check; each needs those before it
COMPILED = {
    "torch": "torch",
    "torchaudio": "torchaudio",
    "torchvision": "torchvision",
    "transformers": "transformers.pipelines",
}

# threads that spin while they wait keep a core from the thread that they wait for: next to one other busy process, a
# step of training takes many times as long, with this policy twice (docs/speed.md, row contention). libgomp reads
# both, and turns a few thousand times before a thread sleeps; other runtimes read the first.
WAIT_POLICY = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "4000"}


def _set_wait_policy() -> bool:
    """Set the policy unless the user has set one; return whether torch was not loaded before."""
    if any(name in os.environ for name in WAIT_POLICY):
        return True
    if "torch" in sys.modules:
        return False
    os.environ.update(WAIT_POLICY)
    return True


WAITS_PASSIVELY = _set_wait_policy()


class BrokenEnvironment(ImportError):
    """Packages of this environment are absent or not compatible with each other.

    Args:
        found: the installed versions, and the package that does not load.
        command: the shell command that installs compatible versions.
    """

    def __init__(self, found: str, command: str) -> None:
        super().__init__(f"expected packages that load together, found {found}; repair with: {command}")
        self.found, self.command = found, command


@contextmanager
def explained_imports() -> Iterator[None]:
    """Pause the garbage collector for imports, and turn errors of broken packages into `BrokenEnvironment`.

    A program that does not catch the error ends with that sentence alone and exit code 1. The collector would pass
    over the half million objects of these imports again and again.

    Raises:
        BrokenEnvironment: where torch, torchaudio, torchvision or transformers is absent or does not load.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        for name in COMPILED:  # some are imported late, after hours of training
            if find_spec(name) is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        yield
    except Exception as error:
        broken = _find_broken()
        if broken is None:
            raise
        sys.excepthook = _print_sentence
        raise broken from error
    finally:
        if not gc.get_freeze_count():  # otherwise also objects that the user has frozen would be released
            gc.freeze()
            gc.unfreeze()  # both move all objects to the oldest generation, which the next pass leaves out
        if collects:
            gc.enable()


def _find_broken() -> BrokenEnvironment | None:
    for name, module in COMPILED.items():
        try:
            importlib.import_module(module)
        except Exception as error:
            versions = [f"{package} {_installed_version(package)}" for package in COMPILED]
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            found = f"{', '.join(versions[:-1])} and {versions[-1]}, of which {name} does not load ({reason[:200]})"
            return BrokenEnvironment(found, _repair_command())
    return None


def _installed_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _repair_command() -> str:
    """Return the command that installs the tested versions, which are in the clone or where the wheel puts them."""
    files = (Path(__file__).parents[1] / "constraints.txt", Path(sys.prefix, "share", "hf_vivae", "constraints.txt"))
    tested = next((["-c", str(file)] for file in files if file.is_file()), [])
    # even the tested versions may not load, as local builds or after an incomplete download
    return shlex.join([sys.executable, "-m", "pip", "install", "--force-reinstall", *COMPILED, *tested])


def _print_sentence(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, BrokenEnvironment):
        sys.__excepthook__(kind, error, trace)
    elif os.environ.get("RANK", "0") == "0":
        print(f"error: {error}", file=sys.stderr)
