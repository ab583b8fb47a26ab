"""What a run ran on: versions, hardware and commit, and how much memory it took."""

import os
import platform
import re
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .corpus.download import bare_address
from .version import __version__

PACKAGES = (
    "torch", "torchaudio", "transformers", "datasets", "evaluate", "accelerate", "timm", "scikit-learn", "numpy",
    "soundfile",
)  # fmt: skip
ADDRESS = re.compile(r"https?://\S+")
PEAK_RESET = "/proc/self/clear_refs"  # Linux


def environment() -> dict[str, Any]:
    """Versions, hardware and commit of this process."""
    return {
        "hf_vivae": __version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "command": _without_secrets([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _without_secrets(command: list[str]) -> list[str]:
    hidden = []
    for part, before in zip(command, ["", *command], strict=False):
        flag, equals, _ = part.partition("=")
        secret = "token" in flag and equals
        follows = "token" in before and "=" not in before
        shown = ADDRESS.sub(lambda found: bare_address(found[0]), part)
        hidden.append(f"{flag}=<hidden>" if secret else "<hidden>" if follows else shown)
    return hidden


def git_commit() -> str | None:
    """Commit of the package's own repository, with `+changes` where files differ; None for an installed copy."""
    package = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", package, *arguments], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None  # no git, or the package does not lie in a repository that tracks it
        return done.stdout.strip()

    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    return f"{commit}+changes" if commit and changes else commit


def reset_peak_memory() -> None:
    """Let `peak_memory_mb` begin anew, for a process that trains several models."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif os.access(PEAK_RESET, os.W_OK):
        Path(PEAK_RESET).write_text("5")  # see proc(5)


def peak_memory_mb() -> float:
    """Largest resident memory since `reset_peak_memory` (but on Linux, of the process), or of the GPU's, in MB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if os.access(PEAK_RESET, os.W_OK):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux kilobytes
