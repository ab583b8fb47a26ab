"""Check of an installation: what is installed, what works, what would fail and how to fix it.

`hf_vivae` and torch are imported only where they are checked, so that a broken one is a finding.
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

FREE_GB = 5  # for the archive, features, and a run of a large encoder with its checkpoints
GIGA = 1024**3


@dataclass(frozen=True)
class Finding:
    """A line of the report.

    Args:
        name: of the thing that was checked.
        value: its version, folder or state.
        remedy: what to do; None where nothing is wrong.
        needed: whether nothing works without the remedy.
    """

    name: str
    value: str
    remedy: str | None = None
    needed: bool = False


def check_all(recipes_folder: Callable[[], Path]) -> Iterator[Finding]:
    """Yield all findings; the argument returns the folder of the recipes."""
    yield Finding("python", f"{platform.python_version()} on {platform.platform()}")
    yield from check_packages()
    package = list(errors_as_findings("hf_vivae", lambda: check_package(recipes_folder)))
    yield from package
    if any(finding.needed for finding in package):
        return  # the other checks import the package
    for name, check in (("torch", check_device), ("cache", check_cache), ("hub", check_hub)):
        yield from errors_as_findings(name, check)


def errors_as_findings(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check, and an error that it raises as one more."""
    try:
        yield from check()
    except Exception as error:  # a broken package may raise anything when it is imported
        value = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        remedy = "install the package again in an environment of its own (README, Start)"
        if hasattr(error, "command"):  # BrokenEnvironment, which cannot be imported from a package that raises it
            value, remedy = error.found, error.command
        yield Finding(name, value, remedy, needed=True)


def check_packages() -> Iterator[Finding]:
    """Yield the packages that the metadata of this one require, and those of its extras."""
    extras: dict[str, list[str]] = {}
    for requirement in map(Requirement, requires("hf_vivae") or []):
        marker = str(requirement.marker or "")
        extra = marker.partition("extra == ")[2].strip("\"'")
        if requirement.name == "hf_vivae" or extra == "test":
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = None
        if extra and installed is None:
            extras.setdefault(extra, []).append(requirement.name)
            continue
        fits = installed is not None and requirement.specifier.contains(installed, prereleases=True)
        remedy = None if fits else f"pip install '{requirement.name}{requirement.specifier}'"
        yield Finding(requirement.name, installed or "not installed", remedy, needed=not extra)
    for extra, names in extras.items():
        yield Finding(", ".join(names), f"not installed, which {USES.get(extra, extra)} needs: hf_vivae[{extra}]")


# commands that need each extra
USES = {
    "search": "hf-vivae search", "ray": "hf-vivae search --backend ray", "export": "hf-vivae export",
    "demo": "hf-vivae demo", "classic": "hf-vivae train --model egemaps",
    "annotation": "hf-vivae timeline --output x.TextGrid", "embed": "hf-vivae embed",
}  # fmt: skip


def check_device() -> Iterator[Finding]:
    """Yield the devices that models can run on."""
    torch = importlib.import_module("torch")
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        yield Finding("device", f"cpu ({cores}); no GPU that torch can use")
        return
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        yield Finding("device", f"cuda:{index}, {gpu.name}, {gpu.total_memory / GIGA:.0f} GB; cpu ({cores})")


def check_package(recipes_folder: Callable[[], Path]) -> Iterator[Finding]:
    """Yield the version and folder of the package itself, and the folder of its recipes."""
    package = importlib.import_module("hf_vivae")
    yield Finding("hf_vivae", f"{package.__version__} in {Path(package.__file__).parent}")
    yield Finding("recipes", str(recipes_folder()))


def check_cache() -> Iterator[Finding]:
    """Yield the state of the cache of downloads and features: its folder, free space, permissions, and VIVAE."""
    from hf_vivae.corpus.vivae import ZENODO_URL, archive_path
    from hf_vivae.files import cache_folder
    from hf_vivae.hub.licenses import VIVAE_LICENSE

    writable = "set HF_VIVAE_CACHE to a folder that you may write to"
    try:
        folder = cache_folder()
    except (RuntimeError, ValueError) as error:  # such as ~nobody/cache
        yield Finding("cache", f"HF_VIVAE_CACHE is not a folder ({error})", writable, needed=True)
        return
    # os.path, since a Path raises where a folder above it is closed
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    free = shutil.disk_usage(existing).free / GIGA
    remedy = None if free >= FREE_GB else f"free some, or set HF_VIVAE_CACHE to a folder with more than {FREE_GB} GB"
    yield Finding("cache", f"{folder}, {free:.0f} GB free", remedy)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        yield Finding("cache", f"{existing} cannot be written to ({error.strerror})", writable, needed=True)
    archive = archive_path(ZENODO_URL)
    state = f"in {archive}" if os.path.isfile(archive) else "not downloaded (or give --data_dir)"
    yield Finding("VIVAE", f"{state}; licence {VIVAE_LICENSE[0]}, as are models trained on it: no commercial use")


def check_hub() -> Iterator[Finding]:
    """Yield the state of the connection to the Hub and of the token, never the token itself."""
    from huggingface_hub import constants, get_token

    from hf_vivae.network import NetworkError, check_reachable

    token = "a token is stored" if get_token() else "no token, which hf-vivae push needs: hf auth login"
    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", f"HF_HUB_OFFLINE is set: only files in the cache are found; {token}")
        return
    try:
        check_reachable(constants.ENDPOINT)
    except NetworkError as error:
        remedy = "give folders instead of Hub ids, and --data_dir or --data synthetic"
        yield Finding("hub", f"{error.found}; {token}", remedy)
        return
    yield Finding("hub", f"{constants.ENDPOINT} answers; {token}")


def report(recipes_folder: Callable[[], Path]) -> int:
    """Print all findings, and return the exit code: 1 where something is wrong that everything needs."""
    findings = []
    for finding in check_all(recipes_folder):
        findings.append(finding)
        print(f"{'! ' if finding.remedy else '  '}{finding.name:<18} {finding.value}")
        if finding.remedy:
            print(f"{'':21}-> {finding.remedy}")
    wrong = sum(finding.remedy is not None for finding in findings)
    print(f"\n{wrong} of {len(findings)} lines need something done." if wrong else "\nNothing would fail here.")
    return int(any(finding.needed for finding in findings if finding.remedy))
