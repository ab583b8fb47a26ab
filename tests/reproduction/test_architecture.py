"""Tables 1 to 4: what is counted on networks and read from runs."""

import pytest
from fake_study import row, rows, write_study
from tiny import PARAMETERS

from hf_vivae.models import MODELS, ModelSpec
from hf_vivae.models.encoder import EncoderConfig, EncoderForAudioClassification
from hf_vivae.models.features_waveform import WaveformFeatureExtractor
from hf_vivae.reproduction.architecture import architecture_tables, describe_folder
from hf_vivae.reproduction.report2022 import LABEL, RUNS
from hf_vivae.reproduction.runs import Collection, collect


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """All models, deviations of each kind and two patch sizes."""
    study = tmp_path_factory.mktemp("study")
    write_study(study)
    return collect(study)


def test_parameters_and_patches_are_counted_without_any_run():
    tables = architecture_tables([])
    counted = {}
    for table in tables:
        sizes = row(table, **{"": "parameters", "from": "recipe paper"})
        counted |= {model: sizes[model] for model in table.columns[2:]}
        assert not rows(table, **{"from": "as run"})
    assert counted == PARAMETERS
    assert "| parameters | recipe paper | 4,906,906 | 4,934,506 | 4,790,506 | 5,151,306 |" in tables[1].to_markdown()
    patches = row(tables[1], **{"": "patches", "from": "recipe paper"})
    assert list(patches.values())[2:] == [46, 40, 240, 20]
    assert row(tables[2], **{"": "parameters (printed)"})["vit-base"] == "8.6 million"
    assert row(tables[3], **{"": "tokens", "from": "recipe paper"})["wav2vec2"] == 49


def test_a_new_model_is_in_a_table_or_an_error(monkeypatch):
    monkeypatch.setitem(MODELS, "mlp-again", MODELS["mlp"])
    assert architecture_tables([])[0].columns[2:] == ("logistic-regression", "mlp", "mlp-again")
    unknown = ModelSpec(EncoderConfig, EncoderForAudioClassification, WaveformFeatureExtractor)
    monkeypatch.setitem(MODELS, "new", unknown)
    with pytest.raises(KeyError, match=EncoderConfig.model_type):
        architecture_tables([])


def test_the_report_describes_what_is_counted():
    for table in architecture_tables([]):
        for given in rows(table, **{"from": LABEL}):
            if "(printed)" not in given[""]:
                counted = row(table, **{"": given[""], "from": "recipe paper"})
                assert all(given[model] in (None, counted[model]) for model in table.columns[2:])


def test_small_networks_are_next_to_those_of_the_recipe(collection):
    tables = architecture_tables(collection.runs)
    layers = {
        origin: row(tables[1], **{"": "layers", "from": origin})["vit-32-30"] for origin in ("recipe paper", "as run")
    }
    assert layers == {"recipe paper": 5, "as run": 2}
    folder = collection.find("paper", "vit-32-30", 42).folder
    as_run = row(tables[1], **{"": "parameters", "from": "as run"})["vit-32-30"]
    assert as_run == describe_folder(folder)["parameters"] < 100_000
    assert not rows(tables[1], **{"": "patches", "from": "as run"}), "the same as the recipe's"
    assert row(tables[0], **{"": "learning rate"}) == {
        "": "learning rate",
        "from": "as run",
        "logistic-regression": None,
        "mlp": 2e-5,
    }
    assert row(tables[0], **{"": "its course"})["mlp"] == "times 0.98 every 50 epochs"
    assert row(tables[0], **{"": "optimiser"})["mlp"] == "Adam with L2"
    assert "| epochs | as run | - | 3 |" in tables[0].to_markdown()


def test_the_reports_losses_as_means():
    run = RUNS["vit-32-30"]
    assert run.mean_loss("train") == pytest.approx(1.228, abs=5e-4)
    assert run.mean_loss("test") == pytest.approx(1.454, abs=5e-4)
    assert RUNS["wav2vec2"].mean_loss("test") == 1.66
    assert RUNS["logistic-regression"].mean_loss("test") is None
