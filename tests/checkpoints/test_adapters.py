"""Fine-tuning of a part of an encoder: frozen layers, LoRA, and saved adapters."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from encoders import ENCODERS, LABELS, RATE, SECONDS, encoder, write_encoders
from runner import ROOT, encoder_flags, run
from safetensors.torch import load_file, save_file
from tiny import clips, model_inputs
from transformers import AutoModelForAudioClassification

import hf_vivae
from hf_vivae.checkpoints.adapters import ADAPTER, add_lora, freeze, load_adapter, transformer_layers
from hf_vivae.checkpoints.load import load_checkpoint, load_encoder, load_for_inference
from hf_vivae.hub.client import checkpoint_files
from hf_vivae.models.hidden_states import bare_encoder
from hf_vivae.run_folder import finished_results, read_predictions
from hf_vivae.training.arguments import RunArguments
from hf_vivae.training.recipes import parse_run
from hf_vivae.validation import UserError

LORA = ("--lora_rank", "2", "--num_train_epochs", "1")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, Path]:
    return write_encoders(tmp_path_factory.mktemp("encoders"))


def trained_names(model) -> set[str]:
    return {name for name, weight in bare_encoder(model).named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("name", ["group norm", "w2v-bert", "whisper", "ast"])
def test_what_is_frozen(encoders, name):
    def frozen(what: str):
        model, _ = load_encoder(encoders[name], LABELS, {}, SECONDS)
        everything = trained_names(model)
        freeze(model, what)
        assert all(weight.requires_grad for weight in model.head.parameters())
        return model, everything, trained_names(model)

    model, everything, left = frozen("none")
    inside = {id(weight) for weight in transformer_layers(model.encoder).parameters()}
    of_layers = {key for key, weight in model.encoder.named_parameters() if id(weight) in inside}
    assert left == everything > of_layers
    _, _, left = frozen("feature_encoder")
    assert everything > left >= of_layers
    _, _, left = frozen("all_but_last_1")
    assert left < of_layers
    assert 1.9 < len(of_layers) / len(left) < 2.1, "one of two layers"
    assert frozen("all")[2] == set()


@pytest.mark.parametrize("name", ["group norm", "w2v-bert", "whisper", "ast"])
def test_lora_starts_as_the_encoder_and_ends_merged_as_it_was_trained(encoders, name):
    model, extractor = encoder(encoders[name])
    inputs = model_inputs(extractor, clips(RATE), SECONDS)
    with torch.no_grad():
        before = model(**inputs).logits
    lora = add_lora(model, lora_arguments(), "somewhere", Path())
    small = [weight for weight in model.encoder.parameters() if weight.requires_grad]
    assert {weight.ndim for weight in small} == {2}
    assert {min(weight.shape) for weight in small} == {3}
    assert sum(weight.numel() for weight in small) < 0.6 * sum(weight.numel() for weight in model.encoder.parameters())
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, before, atol=1e-6, rtol=1e-6)
        for weight in small:
            weight.add_(0.3 * torch.randn_like(weight))
        after = model(**inputs).logits
        assert (after - before).abs().max() > 0.01
        lora.merge_and_unload()
        torch.testing.assert_close(model(**inputs).logits, after, atol=1e-5, rtol=1e-4)
    assert not [name for name, _ in model.named_parameters() if "lora" in name or "head.original" in name]


@pytest.mark.parametrize("name", ENCODERS)
def test_every_matrix_of_lora_learns(encoders, name):
    """WavLM reads the weights of its attention without calling the layers, where LoRA would have no effect."""
    model, extractor = encoder(encoders[name])
    add_lora(model, lora_arguments(), "somewhere", Path())
    model.train()(**model_inputs(extractor, clips(RATE), SECONDS)).logits.square().sum().backward()
    small = {key: weight for key, weight in model.named_parameters() if ".lora_B" in key}
    assert small
    assert [key for key, weight in small.items() if weight.grad is None or not weight.grad.any()] == []


@pytest.mark.parametrize("what", ["feature_encoder", "all", "lora"])
def test_no_gradient_goes_through_what_is_frozen(encoders, what):
    model, extractor = load_encoder(encoders["group norm"], LABELS, {}, SECONDS)
    add_lora(model, lora_arguments(), "somewhere", Path()) if what == "lora" else freeze(model, what)
    seen = []
    model.encoder.feature_extractor.register_forward_hook(lambda module, args, output: seen.append(output))
    model.train()(**model_inputs(extractor, clips(RATE), SECONDS))
    assert [output.requires_grad for output in seen] == [False]


def lora_arguments(**more) -> RunArguments:
    return RunArguments(model="encoder:some/encoder", lora_rank=3, **more)


def test_targets_are_those_that_are_named(encoders):
    model, _ = load_encoder(encoders["whisper"], LABELS, {}, SECONDS)
    add_lora(model, lora_arguments(lora_targets=["q_proj", "v_proj"]), "somewhere", Path())
    adapted = {name.split(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    assert {name.rpartition(".")[2] for name in adapted} == {"q_proj", "v_proj"}
    assert len(adapted) == 4  # in two layers


def test_a_target_that_matches_nothing_is_refused_with_those_that_do(encoders):
    model, _ = load_encoder(encoders["whisper"], LABELS, {}, SECONDS)
    sentence = r"^expected --lora_targets out of fc1, fc2, k_proj, out_proj, q_proj, v_proj, found 'query'; these are"
    with pytest.raises(ValueError, match=sentence):
        add_lora(model, lora_arguments(lora_targets=["q_proj", "query"]), "somewhere", Path())


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"freeze": "some"}, "expected --freeze none, feature_encoder, all or all_but_last_<layers>, found 'some'"),
        ({"lora_rank": 2, "lora_alpha": 0}, "expected --lora_alpha above 0, found 0; twice the rank is usual"),
        ({"lora_rank": 2, "freeze": "all_but_last_1"}, "adapts every layer, found --freeze all_but_last_1 with it"),
        (
            {"lora_rank": 2, "from_scratch": True, "lora_save": "adapter"},
            "found random weights .--from_scratch.; keep",
        ),
        ({"lora_rank": -1}, "expected --lora_rank of 0 or more, found -1; 8 is usual"),
        ({"lora_targets": ["q_proj"]}, "expected --lora_rank with other flags of LoRA, found none; 8 is usual"),
        (
            {"model": "mlp", "lora_rank": 4},
            "an encoder .* with --lora_rank, found --model mlp; leave out --lora",
        ),
        *(
            (
                {"model": f"{prefix}openai/whisper-base", "lora_rank": 8},
                "with --lora_rank, found --model .*openai/whisper-base; give --model encoder:openai/whisper",
            )
            for prefix in ("", "probe:")
        ),
        ({"model": "vit-base", "freeze": "all"}, "expected an encoder .* with --freeze, found --model vit-base"),
    ],
)
def test_what_cannot_be_adapted_so_is_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        RunArguments(**{"model": "encoder:some/encoder", **given})


def test_more_layers_than_there_are_cannot_be_trained(encoders):
    model, _ = load_encoder(encoders["whisper"], LABELS, {}, SECONDS)
    with pytest.raises(ValueError, match=r"^expected --freeze all_but_last_1 to all_but_last_2, found all_but_last_3"):
        freeze(model, "all_but_last_3")


@pytest.fixture(scope="module")
def adapted(tiny_vivae, encoders, tmp_path_factory) -> dict[str, Path]:
    """The same run, saved merged and as an adapter."""
    folders = {}
    for kept in ("merged", "adapter"):
        output = tmp_path_factory.mktemp(kept)
        run(encoder_flags(tiny_vivae, encoders["whisper"], output, *LORA, "--lora_save", kept))
        folders[kept] = output / "S01"
    return folders


def test_an_adapter_is_small_and_scores_as_the_merged_weights(adapted, tiny_vivae):
    assert finished_results(adapted["adapter"]) is not None
    assert not list(adapted["adapter"].glob("*.safetensors"))
    whole = (adapted["merged"] / "model.safetensors").stat().st_size
    assert (adapted["adapter"] / ADAPTER / "adapter_model.safetensors").stat().st_size < whole
    rows = {kept: {row["file"]: row for row in read_predictions(folder)} for kept, folder in adapted.items()}
    files = [file for file, row in rows["merged"].items() if row["split"] == "test"][:3]
    sounds = {row["file"]: row["audio"] for row in hf_vivae.corpus.read_vivae(tiny_vivae, allow_partial=True).dataset}
    for kept, folder in adapted.items():
        classify = hf_vivae.load_classifier(folder)
        for file in files:
            scores = {item["label"]: item["score"] for item in classify(sounds[file])}
            probabilities = torch.tensor(rows[kept][file]["logits"]).softmax(-1).tolist()
            expected = {classify.model.config.id2label[index]: value for index, value in enumerate(probabilities)}
            assert scores == pytest.approx(expected, abs=1e-4)
            assert rows["merged"][file]["logits"] == pytest.approx(rows["adapter"][file]["logits"], abs=1e-4)


def test_merged_weights_are_the_librarys_names(adapted, encoders):
    config = json.loads((adapted["merged"] / "config.json").read_text())
    assert config["model_type"] == "vivae_encoder"
    fresh, _ = load_encoder(encoders["whisper"], LABELS, {}, SECONDS)
    loaded, found = AutoModelForAudioClassification.from_pretrained(adapted["merged"], output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert {key.split(".")[0] for key in loaded.state_dict()} == {key.split(".")[0] for key in fresh.state_dict()}


def test_an_adapter_whose_encoder_is_gone_is_a_sentence(adapted, tmp_path):
    shutil.copytree(adapted["adapter"], tmp_path / "moved")
    file = tmp_path / "moved" / ADAPTER / "adapter_config.json"
    content = json.loads(file.read_text())
    content["base_model_name_or_path"] = "nowhere/encoder"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="'nowhere/encoder' is neither a folder nor in the cache"):
        hf_vivae.load_classifier(tmp_path / "moved")


def test_an_adapter_of_other_weights_than_it_names_is_refused(adapted, encoders, tmp_path):
    shutil.copytree(adapted["adapter"], tmp_path / "run")
    shutil.copytree(encoders["whisper"], tmp_path / "encoder")
    file = tmp_path / "run" / ADAPTER / "adapter_config.json"
    content = json.loads(file.read_text()) | {"base_model_name_or_path": str(tmp_path / "encoder")}
    file.write_text(json.dumps(content))
    same, moved = (load_for_inference(folder)[0].state_dict() for folder in (adapted["adapter"], tmp_path / "run"))
    torch.testing.assert_close(moved, same, atol=0, rtol=0)
    other = AutoModelForAudioClassification.from_pretrained(tmp_path / "encoder")
    torch.nn.init.normal_(other.encoder.layers[0].fc1.bias)
    other.save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match=r"^expected in .*encoder the weights that the adapter was trained on, found"):
        load_for_inference(tmp_path / "run")


def test_an_adapter_of_an_encoder_on_the_hub_keeps_and_asks_for_its_commit(adapted, encoders, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = shutil.copytree(encoders["whisper"], tmp_path / "snapshots" / commit)
    model, _ = load_encoder(folder, LABELS, {}, SECONDS)
    lora = add_lora(model, lora_arguments(lora_save="adapter"), "some/encoder", folder)
    lora.save_pretrained(tmp_path / "run" / ADAPTER)
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(adapted["adapter"] / name, tmp_path / "run")
    asked = []
    monkeypatch.setattr(
        "hf_vivae.checkpoints.load.resolve_checkpoint",
        lambda source, revision: asked.append((source, revision)) or folder,
    )
    with pytest.raises(UserError, match=r"adapter of .*size mismatch for .*classifier"):  # of three labels, not six
        load_for_inference(tmp_path / "run")
    assert asked == [("some/encoder", commit)]


def test_an_adapter_is_no_start_of_another_training(adapted):
    with pytest.raises(
        ValueError, match=r"^expected a whole network in .*, found LoRA's matrices alone; train it with"
    ):
        load_checkpoint(adapted["adapter"], LABELS, {}, SECONDS)


@pytest.mark.parametrize("what", ["none", "feature_encoder", "all", "lora"])
def test_what_an_encoder_learnt_of_its_layers_statistics_stays(encoders, what, tmp_path):
    """The batch norm of a conformer would learn those of padded batches, and an adapter would not save them."""
    model, extractor = encoder(encoders["conformer"])
    lora = add_lora(model, lora_arguments(), "somewhere", Path()) if what == "lora" else freeze(model, what)
    before = {name: values.clone() for name, values in model.encoder.named_buffers()}
    assert any("running_mean" in name for name in before)
    inputs = model_inputs(extractor, clips(RATE), SECONDS)
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    model.train()(**inputs, labels=torch.tensor([0, 1, 2])).loss.backward()
    optimizer.step()
    torch.testing.assert_close(dict(model.encoder.named_buffers()), before, atol=0, rtol=0)
    if what == "lora":
        lora.save_pretrained(tmp_path)
        again, _ = encoder(encoders["conformer"])
        with torch.no_grad():
            found = load_adapter(again, tmp_path).eval()(**inputs).logits
            torch.testing.assert_close(found, model.eval()(**inputs).logits, atol=1e-5, rtol=1e-4)


def test_an_adapter_is_added_to_the_weights_that_it_was_trained_on(adapted, encoders):
    model, extractor = load_encoder(encoders["whisper"], {i: str(i) for i in range(6)}, {}, 1.0)
    inputs = model_inputs(extractor, clips(RATE), 1.0)
    with torch.no_grad():
        before = model.eval()(**inputs).logits
        after = load_adapter(model, adapted["adapter"] / ADAPTER).eval()(**inputs).logits
    assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "pickle",
            "^expected LoRA's matrices as adapter_model.safetensors in .*, found none; convert them with safet",
        ),
        (
            "part",
            r"^expected all weights of the adapter in .*, found none of \d+ \(first: base_model.*layers.1.*\); copy",
        ),
    ],
)
def test_an_adapter_that_is_a_pickle_or_lacks_weights_is_refused(adapted, change, sentence, tmp_path):
    folder = shutil.copytree(adapted["adapter"], tmp_path / "run") / ADAPTER
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    if change == "pickle":
        file.unlink()
        torch.save(weights, folder / "adapter_model.bin")
    else:
        save_file({name: weight for name, weight in weights.items() if "layers.1" not in name}, file)
    with pytest.raises(ValueError, match=sentence):
        load_for_inference(tmp_path / "run")


@pytest.mark.parametrize("size", [0, 100])
def test_matrices_that_are_cut_are_a_sentence(adapted, size, tmp_path):
    folder = shutil.copytree(adapted["adapter"], tmp_path / "run")
    file = folder / ADAPTER / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UserError, match=r"^expected whole weights in .*adapter, found damaged ones"):
        load_for_inference(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"base_model_name_or_path": None},
            "expected base_model_name_or_path as text in .*json, .*, found None; corr",
        ),
        ({"revision": None}, "expected revision as text in .*adapter_config.json, by which .*, found None; correct"),
        ({"r": 3}, "expected values that the adapter of .* can be built with, .*size mismatch"),
        ({"r": "x"}, "expected values that the adapter of .* can be built with, .*TypeError"),
        ({"peft_type": "X"}, "expected values that the adapter of .* can be built with, .*KeyError: 'X'"),
        ({"target_modules": ["x"]}, "expected values that the adapter of .* can be built with, .*No modules"),
    ],
)
def test_settings_that_no_adapter_has_are_one_sentence(adapted, changes, sentence, tmp_path):
    folder = shutil.copytree(adapted["adapter"], tmp_path / "run")
    file = folder / ADAPTER / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(UserError, match=f"^{sentence}"):
        load_for_inference(folder)


def test_an_adapter_with_the_configuration_of_another_network_is_a_sentence(adapted, encoders, tmp_path):
    folder = shutil.copytree(adapted["adapter"], tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["encoder"]["d_model"] *= 2
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"^expected in .*/config.json the encoder that .*; put back the config.json"):
        load_for_inference(folder)
    shutil.copy(encoders["whisper"] / "config.json", folder)
    with pytest.raises(
        UserError, match=r"^expected the configuration of an adapted encoder with .*, found that of a whisp"
    ):
        load_for_inference(folder)


def test_an_adapter_is_not_pushed(adapted):
    with pytest.raises(ValueError, match="found LoRA's matrices alone; train with --lora_save merged"):
        checkpoint_files(adapted["adapter"])
    assert "encoder.py" in {file.name for file in checkpoint_files(adapted["merged"])}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--lora_save", "adapter"], "expected --lora_save merged with --push_to_hub, found adapter"),
        (["--hub_strategy", "every_save"], "expected --hub_strategy end with --push_to_hub, found every_save"),
    ],
)
def test_what_only_this_package_could_load_is_not_pushed(more, sentence):
    argv = ["--model", "encoder:some/encoder", "--lora_rank", "2", "--push_to_hub", *more]
    with pytest.raises(ValueError, match=sentence):
        parse_run(argv, ROOT / "recipes")
