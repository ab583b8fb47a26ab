"""Properties of every model of `MODELS`, and the reference implementations of single models."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from forks import run_forked
from tiny import CONFIGS, PARAMETERS, clips, model_inputs
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

from hf_vivae.features.extraction import matching_extractor
from hf_vivae.models import MODELS, build_config, build_feature_extractor, build_model
from hf_vivae.models.padding import mask_padding

EMOTIONS = {0: "achievement", 1: "anger", 2: "fear", 3: "pain", 4: "pleasure", 5: "surprise"}


def tiny(name, **config):
    torch.manual_seed(0)
    model = mask_padding(build_model(name, **{**CONFIGS[name], **config})).eval()
    return model, matching_extractor(name, model.config)


def features_of(extractor, batch):
    return model_inputs(extractor, batch, 1.5)


def cut(extractor, clip):
    """Cut a clip as training does for extractors of the library; ours cut by themselves."""
    return clip[: getattr(extractor, "num_samples", None)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of each tiny model, and its logits of clips in one padded batch, as in training."""
    folders = {}
    for name in MODELS:
        model, extractor = tiny(name, id2label=EMOTIONS, label2id={v: k for k, v in EMOTIONS.items()})
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
        with torch.no_grad():
            logits = model(**features_of(extractor, clips(extractor.sampling_rate))).logits
        folders[name] = folder, logits
    return folders


@pytest.mark.parametrize("name", MODELS)
class TestContract:
    def test_number_of_parameters_is_that_of_the_paper(self, name):
        with torch.device("meta"):
            model = build_model(name)
        assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]

    def test_a_clip_is_scored_alone_as_in_company(self, name):
        model, extractor = tiny(name)
        batch = clips(extractor.sampling_rate, 4)
        with torch.no_grad():
            together = model(**features_of(extractor, batch)).logits
            for index, clip in enumerate(batch):
                alone = model(**features_of(extractor, [clip])).logits[0]
                torch.testing.assert_close(alone, together[index], atol=1e-5, rtol=1e-5)

    def test_auto_classes_load_a_saved_model(self, name, saved):
        folder, logits = saved[name]
        model = AutoModelForAudioClassification.from_pretrained(folder)
        extractor = AutoFeatureExtractor.from_pretrained(folder)
        rate = extractor.sampling_rate
        with torch.no_grad():
            for clip, row in zip(clips(rate), logits, strict=True):
                again = model(**extractor(cut(extractor, clip), sampling_rate=rate, return_tensors="pt")).logits[0]
                torch.testing.assert_close(again, row, atol=1e-6, rtol=1e-6)
        assert type(model) is MODELS[name].model_class
        assert model.config.id2label == EMOTIONS

    def test_pipeline_scores_as_the_model_does(self, name, saved):
        folder, logits = saved[name]
        classify = pipeline("audio-classification", str(folder))
        extractor = classify.feature_extractor
        rate = extractor.sampling_rate
        batch = [{"array": cut(extractor, clip), "sampling_rate": rate} for clip in clips(rate)]
        # the library pads a batch of wav2vec2, whose scores depend on it
        size = 1 if name == "wav2vec2" else 2
        for output, row in zip(classify(batch, top_k=None, batch_size=size), logits.softmax(-1), strict=True):
            scores = {item["label"]: item["score"] for item in output}
            assert scores == pytest.approx({EMOTIONS[i]: float(p) for i, p in enumerate(row)}, abs=1e-5)

    def test_any_number_of_labels(self, name):
        model, extractor = tiny(name, num_labels=24)
        assert model(**features_of(extractor, clips(extractor.sampling_rate))).logits.shape == (3, 24)

    def test_loss_is_cross_entropy_and_reaches_every_weight(self, name):
        model, extractor = tiny(name)
        batch, labels = features_of(extractor, clips(extractor.sampling_rate)), torch.tensor([0, 5, 2])
        output = model.train()(**batch, labels=labels)
        torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, labels))
        output.loss.backward()
        missing = [key for key, weight in model.named_parameters() if weight.grad is None]
        # wav2vec2's mask embedding is used by SpecAugment alone, which the tiny configuration turns off
        assert missing == (["wav2vec2.masked_spec_embed"] if name == "wav2vec2" else [])

    def test_gradient_checkpointing_changes_nothing(self, name):
        model, extractor = tiny(name)
        if not model.supports_gradient_checkpointing:
            assert name == "logistic-regression", "one layer has nothing to recompute; every other model has"
            return
        batch = features_of(extractor, clips(extractor.sampling_rate))
        gradients = []
        for enable in (False, True):
            if enable:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            model.zero_grad()
            model.train()(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
            gradients.append({key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None})
        torch.testing.assert_close(gradients[1], gradients[0])

    def test_unknown_fields_name_the_nearest(self, name):
        with pytest.raises(ValueError, match=r"has no field 'num_lables' \(did you mean num_labels\?\)"):
            build_config(name, num_lables=3)
        with pytest.raises(ValueError, match=r"has no field 'num_sample' \(did you mean num_samples\?\)"):
            build_feature_extractor(name, num_sample=3)


# prints the error without consent to run the code of a checkpoint, where it is needed, and the logits of all models
LOAD = """
import json, sys
import numpy as np, torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification
consent, folders, waves = sys.argv[1] == "remote", json.loads(sys.argv[2]), np.load(sys.argv[3])
if not consent:
    import hf_vivae
logits, refusal = {}, None
if consent:
    try:
        AutoModelForAudioClassification.from_pretrained(folders["mlp"])
    except ValueError as error:
        refusal = str(error)
    assert not [name for name in sys.modules if name.startswith("transformers_modules.")]
for name, folder in folders.items():
    extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=consent)
    model = AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=consent)
    rate = extractor.sampling_rate
    batch = [waves[f"{rate}-{i}"][: getattr(extractor, "num_samples", None)] for i in range(3)]
    with torch.no_grad():
        outputs = [model(**extractor(clip, sampling_rate=rate, return_tensors="pt")) for clip in batch]
    logits[name] = [output.logits[0].tolist() for output in outputs]
assert ("hf_vivae" in sys.modules) == (not consent)
print()  # after the library's question for consent
print(json.dumps([logits, refusal]))
"""


@pytest.fixture(scope="module")
def load_arguments(saved, tmp_path_factory) -> list[str]:
    """Folders of all models, and a file with clips, as `LOAD` takes them."""
    file = tmp_path_factory.mktemp("waves") / "waves.npz"
    np.savez(file, **{f"{rate}-{i}": clip for rate in (16000, 44100) for i, clip in enumerate(clips(rate))})
    return [json.dumps({name: str(folder) for name, (folder, _) in saved.items()}), str(file)]


def check_loaded(printed: str, saved) -> str | None:
    """Compare the logits that `LOAD` has printed; return the error without consent."""
    logits, refusal = json.loads(printed.splitlines()[-1])
    assert logits.keys() == saved.keys()
    for name, rows in logits.items():
        np.testing.assert_allclose(rows, saved[name][1], atol=1e-6, err_msg=name)
    return refusal


def test_a_new_process_with_the_package_loads_the_same_logits(saved, load_arguments):
    check_loaded(run_forked(["installed", *load_arguments], code=LOAD, check=True).stdout, saved)


def test_without_the_package_the_code_of_a_checkpoint_runs_on_consent_only(saved, load_arguments, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LOAD, "remote", *load_arguments],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert "trust_remote_code" in check_loaded(done.stdout, saved)


@pytest.mark.parametrize("patch", [(32, 30), (16, 69), (8, 23), (32, 69)])
def test_spectrogram_vit_equals_vit_pytorch(patch):
    from vit_pytorch.vit import ViT

    torch.manual_seed(0)
    oracle = ViT(
        image_size=(64, 690), patch_size=patch, num_classes=6, dim=200, depth=5, heads=16, mlp_dim=300, channels=1
    ).eval()  # fmt: skip
    model = build_model(f"vit-{patch[0]}-{patch[1]}").eval()
    model.load_state_dict({ours: oracle.state_dict()[theirs] for ours, theirs in vit_pytorch_names(model).items()})
    spectrograms = torch.randn(3, 1, 64, 690)
    with torch.no_grad():
        torch.testing.assert_close(model(spectrograms).logits, oracle(spectrograms), atol=1e-5, rtol=1e-5)


def vit_pytorch_names(model) -> dict[str, str]:
    """Return the name in vit-pytorch 0.33.2 of each of our parameters."""
    names = {
        "embeddings.class_token": "cls_token",
        "embeddings.positions": "pos_embedding",
        "embeddings.projection": "to_patch_embedding.1",
        "norm": "mlp_head.0",
        "classifier": "mlp_head.1",
    }
    for i in range(model.config.num_hidden_layers):
        attention, mlp = f"transformer.layers.{i}.0", f"transformer.layers.{i}.1"
        names |= {
            f"layers.{i}.attention_norm": f"{attention}.norm",
            f"layers.{i}.attention.qkv": f"{attention}.fn.to_qkv",
            f"layers.{i}.attention.projection": f"{attention}.fn.to_out.0",
            f"layers.{i}.mlp_norm": f"{mlp}.norm",
            f"layers.{i}.mlp.0": f"{mlp}.fn.net.0",
            f"layers.{i}.mlp.3": f"{mlp}.fn.net.3",
        }
    parameters = {}
    for key in model.state_dict():
        stem = key if key in names else key.rpartition(".")[0]
        parameters[key] = names[stem] + key[len(stem) :]
    return parameters


def test_vit_base_equals_timm(tmp_path):
    import timm

    model, extractor = tiny("vit-base")
    config = CONFIGS["vit-base"]
    oracle = timm.create_model("vit_base_patch16_224", num_classes=6, img_size=32, **config["architecture_config"])
    oracle.load_state_dict(model.backbone.state_dict())
    spectrograms = features_of(extractor, clips(44100))["input_features"]
    with torch.no_grad():
        images = model.to_image(spectrograms)
        torch.testing.assert_close(model(spectrograms).logits, oracle.eval()(images), atol=1e-5, rtol=1e-5)


def test_images_of_vit_base_equal_those_of_torchvision():
    from torchvision.transforms import CenterCrop, InterpolationMode, Normalize, Resize

    model, extractor = tiny("vit-base", image_size=224, resize_size=248)
    spectrograms = features_of(extractor, clips(44100))["input_features"]
    low, high = spectrograms.amin((1, 2, 3), keepdim=True), spectrograms.amax((1, 2, 3), keepdim=True)
    images = Resize(248, InterpolationMode.BICUBIC, antialias=True)((spectrograms - low) / (high - low)).clamp(0, 1)
    expected = Normalize(3 * [0.5], 3 * [0.5])(CenterCrop(224)(images).expand(-1, 3, -1, -1))
    torch.testing.assert_close(model.to_image(spectrograms), expected, atol=1e-4, rtol=0)


def test_vit_base_can_see_the_whole_clip():
    model, extractor = tiny("vit-base", resize_size=None)
    assert model.to_image(features_of(extractor, clips(44100))["input_features"]).shape == (3, 3, 32, 32)


def test_wav2vec2_is_the_librarys():
    from transformers import Wav2Vec2ForSequenceClassification

    model, extractor = tiny("wav2vec2")
    assert type(model) is Wav2Vec2ForSequenceClassification
    oracle = Wav2Vec2ForSequenceClassification(model.config).eval()
    oracle.load_state_dict(model.state_dict())
    batch = features_of(extractor, clips(16000))
    with torch.no_grad():
        for clip, row in zip(clips(16000), model(**batch).logits, strict=True):
            alone = extractor(cut(extractor, clip), sampling_rate=16000, return_tensors="pt")
            torch.testing.assert_close(row, oracle(**alone).logits[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("vit-") and name != "vit-base"])
def test_sdpa_equals_attention_written_out(name):
    model, extractor = tiny(name)
    assert model.config._attn_implementation == "sdpa"
    batch = features_of(extractor, clips(44100))
    with torch.no_grad():
        fused = model(**batch).logits
        model.set_attn_implementation("eager")
        torch.testing.assert_close(model(**batch).logits, fused, atol=1e-5, rtol=1e-5)


def test_other_mel_and_patch_sizes_work_where_they_divide():
    model = build_model(
        "vit-32-30", **CONFIGS["vit-32-30"] | {"num_mel_bins": 48, "num_frames": 100, "patch_size": (12, 25)}
    )
    assert model.config.num_patches == 16
    assert model(torch.zeros(2, 1, 48, 100)).logits.shape == (2, 6)


def test_a_longer_step_between_frames_covers_more_of_a_clip_in_as_many_frames():
    model, extractor = tiny("vit-32-30", hop_length=128)
    assert (extractor.hop_length, extractor.num_samples) == (128, 689 * 128)
    spectrograms = features_of(extractor, clips(44100))["input_features"]
    assert spectrograms.shape[1:] == (1, 64, 690)
    assert model(spectrograms).logits.shape == (3, 6)


def test_the_mean_of_the_tokens_is_read_where_it_is_asked_for():
    torch.manual_seed(0)
    model, extractor = tiny("vit-32-30", pooling="mean")
    tokens = []
    model.layers[-1].register_forward_hook(lambda layer, inputs, output: tokens.append(output))
    with torch.no_grad():
        logits = model(**features_of(extractor, clips(44100))).logits
        each = [model.norm(token) for token in tokens[0].unbind(dim=1)]  # 46 patches and the class token
        expected = model.classifier(sum(each) / 47)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="expected pooling out of class, mean, found 'max'; give one of them"):
        build_model("vit-32-30", pooling="max")


def test_a_patch_that_does_not_divide_is_an_error_with_those_that_do():
    with pytest.raises(
        ValueError, match=r"31 does not divide the 690 frames; use one of 1, 2, 3, 5, 6, 10, 15, 23, 30"
    ):
        build_model("vit-32-30", patch_size=(32, 31))
    with pytest.raises(ValueError, match="30 does not divide the 64 mel bins; use one of 1, 2, 4, 8, 16, 32, 64"):
        build_model("vit-32-30", patch_size=(30, 30))


def test_a_spectrogram_of_another_shape_is_refused():
    model, _ = tiny("vit-32-30")
    with pytest.raises(ValueError, match=r"of shape \(batch, 1, 64, 690\), found \(1, 1, 64, 345\); use the feature"):
        model(torch.zeros(1, 1, 64, 345))


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(ValueError, match=r"found 'vit-32-3' \(did you mean vit-32-30\?\)"):
        build_model("vit-32-3")
