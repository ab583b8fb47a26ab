"""An environment with the wanted packages has them and their requirements, and no others."""

import json
import subprocess
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
from bare_environment import make_bare_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FORBIDDEN = (
    "hf_vivae", "torchaudio", "torchvision", "timm", "datasets", "soundfile", "sklearn", "scipy", "pandas", "pyarrow",
    "accelerate", "evaluate", "peft", "matplotlib", "pytest", "pip",
)  # fmt: skip
# what imports, what does not, and what is listed
PROGRAM = """
import importlib, importlib.metadata, json, sys

def there(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True

import torch, transformers, numpy
from transformers import pipeline

logits = torch.nn.Linear(3, 2)(torch.from_numpy(numpy.ones(3, "float32")))
found = {
    "logits": list(logits.shape),
    "packages": sorted(package.name for package in importlib.metadata.distributions()),
    "there": [name for name in sys.argv[1:] if there(name)],
    "path": sys.path,
}
print(json.dumps(found))
"""


def ask(python: Path) -> dict[str, Any]:
    command = [python, "-I", "-c", PROGRAM, *FORBIDDEN]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def required(name: str) -> set[str]:
    """Canonical names of all that a package may require, with any extra and on any system."""
    return {canonicalize_name(Requirement(text).name) for text in requires(name) or ()}


def test_only_the_packages_and_their_requirements_are_there(tmp_path):
    found = ask(make_bare_environment(tmp_path / "bare"))
    assert found["logits"] == [2]
    assert found["there"] == []
    names = {canonicalize_name(name) for name in found["packages"]}
    assert len(names) == len(found["packages"])
    assert {"torch", "transformers", "numpy", "tokenizers", "safetensors", "huggingface-hub", "sympy"} <= names
    assert names <= {"torch", "transformers", "numpy"}.union(*(required(name) for name in names))
    assert not names & {canonicalize_name(name) for name in (*FORBIDDEN, "scikit-learn", "hf-vivae")}
    assert all(Path(place).is_relative_to(tmp_path) for place in found["path"] if place.endswith("site-packages"))


def test_a_further_package_brings_its_own_requirements(tmp_path):
    found = ask(make_bare_environment(tmp_path / "bare", ("torch", "transformers", "numpy", "timm")))
    assert found["there"] == ["torchvision", "timm"]
    assert {"timm", "torchvision", "pillow"} <= {canonicalize_name(name) for name in found["packages"]}


def test_nothing_is_copied(tmp_path):
    python = make_bare_environment(tmp_path / "bare")
    sizes = [path.lstat().st_size for path in python.parents[1].rglob("*")]
    assert sum(sizes) < 2**20


def install(site: Path, name: str, files: dict[str, str], *requirements: str) -> None:
    """Write a package as pip leaves it."""
    lines = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0",
        *(f"Requires-Dist: {text}" for text in requirements),
    ]
    files = {**files, f"{name}-1.0.dist-info/METADATA": "\n".join(lines)}
    record = "".join(f"{path},,\n" for path in [*files, f"{name}-1.0.dist-info/RECORD", "../../bin/script"])
    for path, text in {**files, f"{name}-1.0.dist-info/RECORD": record}.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)


def test_shared_folders_extras_and_editable_packages(tmp_path, monkeypatch):
    """`alpha` requires an extra of `beta`, which brings `gamma`, and shares a folder with the foreign `other`."""
    site, source = tmp_path / "site", tmp_path / "source"
    install(
        site, "alpha", {"shared/alpha/a.py": ""}, "beta[more]", 'other; extra == "all"', 'other; python_version < "3"'
    )
    install(site, "beta", {"__editable__.beta.pth": str(source)}, 'gamma; extra == "more"', 'other; extra == "all"')
    install(site, "gamma", {"shared/gamma.py": "", "gamma_alone/deep/g.py": ""}, "not-installed-here")
    install(site, "other", {"shared/other/o.py": "", "other.py": ""})
    source.mkdir()
    (source / "beta.py").touch()
    monkeypatch.syspath_prepend(site)
    python = make_bare_environment(tmp_path / "bare", ("alpha",))
    below = next((tmp_path / "bare").rglob("site-packages"))
    dist_info = {f"{name}-1.0.dist-info" for name in ("alpha", "beta", "gamma")}
    assert {path.name for path in below.iterdir()} == {"shared", "gamma_alone", "__editable__.beta.pth", *dist_info}
    assert {path.name for path in (below / "shared").iterdir()} == {"alpha", "gamma.py"}
    assert (below / "gamma_alone").is_symlink()
    subprocess.run([python, "-I", "-c", "import beta, gamma_alone.deep.g, shared.alpha.a, shared.gamma"], check=True)


def test_a_package_must_be_installed(tmp_path):
    with pytest.raises(PackageNotFoundError, match="nothing-of-this-name"):
        make_bare_environment(tmp_path / "bare", ("nothing-of-this-name",))


def test_a_package_must_have_a_record(tmp_path, monkeypatch):
    install(tmp_path, "alpha", {"alpha.py": ""})
    (tmp_path / "alpha-1.0.dist-info" / "RECORD").unlink()
    monkeypatch.syspath_prepend(tmp_path)
    sentence = "expected a record of the files of alpha, found none: install it again with pip"
    with pytest.raises(ValueError, match=sentence):
        make_bare_environment(tmp_path / "bare", ("alpha",))
