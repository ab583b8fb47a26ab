"""Each model of `MODELS` is in all places that CONTRIBUTING.md names under "Adding a model"."""

import pytest
import yaml
from runner import ROOT
from tiny import CONFIGS, PARAMETERS
from transformers import PreTrainedConfig

from hf_vivae.models import MODELS, SpectrogramViTConfig
from hf_vivae.reproduction.architecture import DESCRIPTIONS

RECIPES = ROOT / "recipes"


def missing_places(name: str, config_class: type[PreTrainedConfig]) -> list[str]:
    """Return the places, as CONTRIBUTING.md writes them, in which a model is missing."""
    # search/vit.yaml is for transformers on spectrograms, whatever their patch, and for no other model
    space = "vit" if config_class is SpectrogramViTConfig else name
    present = {
        "recipes/paper/<name>.yaml": (RECIPES / "paper" / f"{name}.yaml").is_file(),
        "recipes/tuned/<name>.yaml": (RECIPES / "tuned" / f"{name}.yaml").is_file(),
        "recipes/search/<name>.yaml": (RECIPES / "search" / f"{space}.yaml").is_file(),
        "recipes/reproduce_quick.yaml": name in yaml.safe_load((RECIPES / "reproduce_quick.yaml").read_text()),
        "model_cards/<name>.yaml": (ROOT / "model_cards" / f"{name}.yaml").is_file(),
        "hf_vivae/reproduction/architecture.py": config_class.model_type in DESCRIPTIONS,
        "tests/helpers/tiny.py": name in CONFIGS and name in PARAMETERS,
        "README.md": f"`{name}`" in (ROOT / "README.md").read_text(),
    }
    return [place for place, is_present in present.items() if not is_present]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_in_every_place(name):
    missing = missing_places(name, MODELS[name].config_class)
    assert not missing, f"{name} is missing in {', '.join(missing)}; see CONTRIBUTING.md, Adding a model"


def test_contributing_names_the_places_that_an_unknown_model_is_missing_in():
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Adding a model")[2].partition("\n## ")[0]
    missing = missing_places("unknown", PreTrainedConfig)
    assert len(missing) == 8
    for place in ("hf_vivae/models/<name>.py", "MODELS", *missing):
        assert f"`{place}`" in section, f"CONTRIBUTING.md does not name {place}"
