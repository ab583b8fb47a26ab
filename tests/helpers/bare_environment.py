"""A virtual environment with some packages of this one and nothing else, made without a download.

Its site-packages holds links to the files that the packages and their requirements have here.
"""

import sysconfig
import venv
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# a path below site-packages, such as ("nvidia", "cublas", "lib")
PredictionShards = tuple[str, ...]


def make_bare_environment(folder: Path, packages: Sequence[str] = ("torch", "transformers", "numpy")) -> Path:
    """The `python` of a new virtual environment in `folder` that has the packages and what they require.

    A requirement that is not installed here is left out there, too. Run it with `-I`: neither `PYTHONPATH` nor the
    working folder adds packages to it then.

    Raises:
        PackageNotFoundError: for a package that is not installed here.
        ValueError: for an installed one without a record of its files.
    """
    venv.EnvBuilder(symlinks=True).create(folder)
    names = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", names))
    for parts, target in _links(_closure(packages)).items():
        link = site.joinpath(*parts)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    return Path(sysconfig.get_path("scripts", "venv", names)) / "python"


def _closure(packages: Sequence[str]) -> dict[str, Distribution]:
    """The packages and what of their requirements is installed, by canonical name."""
    found = {canonicalize_name(name): distribution(name) for name in packages}
    seen, left = set(), [Requirement(name) for name in packages]
    while left:
        requirement = left.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        left += _requirements(found[name], extras)
    return found


def _requirements(package: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """Return the requirements of a package on this system, with some of its extras."""
    for text in package.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _links(wanted: Mapping[str, Distribution]) -> dict[PredictionShards, Path]:
    """Return the names to link and their paths here.

    A folder is linked whole where no other package has files in it; of a shared one, such as `nvidia`, only what the
    wanted packages have inside.
    """
    others = [package for package in distributions() if canonicalize_name(package.name) not in wanted]
    foreign = {folder for package in others for parts in _files(package) for folder in _folders(parts)}
    links = {}
    for package in wanted.values():
        files = _files(package)
        if not files:
            raise ValueError(
                f"expected a record of the files of {package.name}, found none: install it again with pip"
            )
        for parts in files:
            own = next((folder for folder in _folders(parts) if folder not in foreign), parts)
            links[own] = Path(package.locate_file("/".join(own)))
    return links


def _files(package: Distribution) -> set[PredictionShards]:
    """Recorded files below site-packages, but for scripts, which lie outside, and bytecode of modules on top."""
    return {file.parts for file in package.files or () if file.parts[0] not in ("..", "/", "__pycache__")}


def _folders(parts: PredictionShards) -> Iterator[PredictionShards]:
    """The folders that a file lies in, the outermost first."""
    return (parts[:depth] for depth in range(1, len(parts)))
