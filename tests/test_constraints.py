"""`constraints.txt` has one exact version of everything that is installed, on each system and Python."""

import tomllib

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from runner import ROOT

LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.lstrip().startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ENVIRONMENTS = [
    {"python_version": python, "python_full_version": f"{python}.5", "implementation_name": "cpython"} | system
    for python in ("3.11", "3.12", "3.13")
    for system in (
        {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
        {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
        {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
    )
]


def holds(marker: Marker | None, environment: dict[str, str]) -> bool:
    return marker is None or marker.evaluate(environment | {"extra": ""})


def pins(environment: dict[str, str]) -> dict[str, Version]:
    """The version of each package there; a second one for a package fails."""
    chosen: dict[str, Version] = {}
    for requirement in map(Requirement, LINES):
        if holds(requirement.marker, environment):
            assert requirement.name not in chosen, f"two versions of {requirement.name}"
            (specifier,) = requirement.specifier
            chosen[requirement.name] = Version(specifier.version)
    return chosen


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_an_exact_public_version_and_no_address(line):
    requirement = Requirement(line)
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    assert Version(specifier.version).local is None
    assert requirement.url is None
    assert not requirement.extras
    assert requirement.name == canonicalize_name(requirement.name)


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda env: f"{env['sys_platform']}-{env['python_version']}")
def test_each_dependency_has_a_version_within_its_bounds(environment):
    there = pins(environment)
    declared = [*PROJECT["dependencies"], *(text for texts in EXTRAS.values() for text in texts)]
    for requirement in map(Requirement, declared):
        if requirement.name == PROJECT["name"] or not holds(requirement.marker, environment):
            continue
        assert requirement.specifier.contains(there[canonicalize_name(requirement.name)]), requirement
