"""What is installed here, what works, and what would fail, each with its cure.

Nothing of `hf_vivae` or torch is imported before it is looked at: where one of them is broken, that is what is said.
"""

import importlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

FREE_GB = 5  # archive, features, and a run of a large encoder with its checkpoints
GIGA = 1024**3


@dataclass(frozen=True)
class Finding:
    """A line of the report.

    Args:
        name: what was looked at.
        found: how it is.
        cure: what to do; None where all is well.
        needed: whether nothing works without the cure.
    """

    name: str
    found: str
    cure: str | None = None
    needed: bool = False


def find_all() -> Iterator[Finding]:
    """Everything that is looked at, one by one."""
    yield Finding("python", f"{platform.python_version()} on {platform.platform()}")
    yield from find_packages()
    package = list(_guarded("hf_vivae", find_package))
    yield from package
    if any(finding.needed for finding in package):
        return  # the rest is looked at through the package
    for name, look in (("torch", find_device), ("cache", find_cache), ("hub", find_hub)):
        yield from _guarded(name, look)


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except Exception as error:  # whatever breaks an import is what this report is for
        found = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        cure = "install the package anew in an environment of its own (README, Start)"
        if hasattr(error, "command"):  # of BrokenEnvironment, whose module cannot be imported where it is raised
            found, cure = error.found, error.command
        yield Finding(name, found, cure, needed=True)


def find_packages() -> Iterator[Finding]:
    """The packages that this one needs, and those of its extras, as its own metadata ask for them."""
    extras: dict[str, list[str]] = {}
    for requirement in map(Requirement, requires("hf_vivae") or []):
        marker = str(requirement.marker or "")
        extra = marker.partition("extra == ")[2].strip("\"'")
        if requirement.name == "hf_vivae" or extra == "test":
            continue
        found = _version(requirement.name)
        if extra and found is None:
            extras.setdefault(extra, []).append(requirement.name)
            continue
        fits = found is not None and requirement.specifier.contains(found, prereleases=True)
        cure = None if fits else f"pip install '{requirement.name}{requirement.specifier}'"
        yield Finding(requirement.name, found or "not installed", cure, needed=not extra)
    for extra, names in extras.items():
        yield Finding(", ".join(names), f"not installed, which {USES.get(extra, extra)} needs: hf_vivae[{extra}]")


# extra -> what it is for
USES = {
    "search": "hf-vivae search", "ray": "hf-vivae search --backend ray", "export": "hf-vivae export",
    "demo": "hf-vivae demo",
}  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def find_device() -> Iterator[Finding]:
    """Yield the devices that models can run on."""
    torch = importlib.import_module("torch")
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        yield Finding("device", f"cpu ({cores}); no GPU that torch can use")
        return
    for place in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(place)
        yield Finding("device", f"cuda:{place}, {gpu.name}, {gpu.total_memory / GIGA:.0f} GB; cpu ({cores})")


def find_package() -> Iterator[Finding]:
    """Whether the package itself can be imported, and where its recipes are."""
    from .app import recipes_folder

    package = importlib.import_module("hf_vivae")
    yield Finding("hf_vivae", f"{package.__version__} in {Path(package.__file__).parent}")
    yield Finding("recipes", str(recipes_folder()))


def find_cache() -> Iterator[Finding]:
    """Where downloads and features are kept, whether there is room, and whether VIVAE is there."""
    from hf_vivae.corpus.vivae import ZENODO_URL, archive_path
    from hf_vivae.files import cache_folder
    from hf_vivae.hub.licenses import VIVAE_LICENSE

    writable = "set HF_VIVAE_CACHE to a folder that you may write to"
    try:
        folder = cache_folder()
    except (RuntimeError, ValueError) as error:  # such as ~nobody/cache
        yield Finding("cache", f"HF_VIVAE_CACHE is no folder ({error})", writable, needed=True)
        return
    # os.path, since a Path raises where a folder above it is closed
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    free = shutil.disk_usage(there).free / GIGA
    cure = None if free >= FREE_GB else f"free some, or set HF_VIVAE_CACHE to a folder with more than {FREE_GB} GB"
    yield Finding("cache", f"{folder}, {free:.0f} GB free", cure)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield Finding("cache", f"{there} cannot be written to ({error.strerror})", writable, needed=True)
    archive = archive_path(ZENODO_URL)
    state = f"in {archive}" if os.path.isfile(archive) else "not downloaded (or give --data_dir)"
    yield Finding("VIVAE", f"{state}; licence {VIVAE_LICENSE[0]}, as are models trained on it: no commercial use")


def find_hub() -> Iterator[Finding]:
    """Whether the Hub can be asked, and who is logged in; never the token."""
    from huggingface_hub import constants, get_token

    from hf_vivae.network import NetworkError, check_reachable

    token = "a token is stored" if get_token() else "no token, which hf-vivae push needs: hf auth login"
    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", f"HF_HUB_OFFLINE is set: what is not in the cache is not found; {token}")
        return
    try:
        check_reachable(constants.ENDPOINT)
    except NetworkError as error:
        cure = "give folders instead of Hub ids, and --data_dir or --data synthetic"
        yield Finding("hub", f"{error.found}; {token}", cure)
        return
    yield Finding("hub", f"{constants.ENDPOINT} answers; {token}")


def say_all() -> int:
    """Print the report; the exit code, 1 where something is missing that everything needs."""
    findings = []
    for finding in find_all():
        findings.append(finding)
        print(f"{'  ' if finding.cure is None else '! '}{finding.name:<18} {finding.found}")
        if finding.cure:
            print(f"{'':21}-> {finding.cure}")
    wrong = sum(finding.cure is not None for finding in findings)
    print(f"\n{wrong} of {len(findings)} lines need something done." if wrong else "\nNothing would fail here.")
    return int(any(finding.needed for finding in findings if finding.cure))
