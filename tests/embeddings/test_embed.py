"""Embeddings of clips and of windows, from any source, also after a start that was killed."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from checkpoints_of import write_checkpoint
from encoders import LABELS, SECONDS, write_encoder
from predicting import sound
from tiny import CONFIGS

from hf_vivae import load_classifier
from hf_vivae.checkpoints.load import load_encoder, load_probe
from hf_vivae.embeddings.embedder import Embedder, find_classifier
from hf_vivae.embeddings.run import run_embed
from hf_vivae.inference import sources
from hf_vivae.inference.shards import Parts
from hf_vivae.validation import UserError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Six clips of 0.1 to 1.5 s, of which one is text."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        (folder / f"{number}.wav").write_bytes(sound(number) if number != 3 else b"hello")
    return folder


def test_each_clip_has_the_vector_that_the_last_layer_classifies(checkpoint, clips, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sources, "FILES_PER_SHARD", 2)
    assert run_embed(str(checkpoint), [str(clips)], output=tmp_path / "emb", batch_size=2, workers=2) == 3
    assert "5 clips embedded" in capsys.readouterr().out
    rows = pq.read_table(tmp_path / "emb").to_pylist()
    assert [Path(row["file"]).name for row in rows] == [f"{number}.wav" for number in range(6)]
    classify = load_classifier(checkpoint)
    layer = find_classifier(classify.model)
    for row in rows:
        if row["error"]:
            assert row["embedding"] is None
            assert "no readable audio" in row["error"]
            continue
        scores = {answer["label"]: answer["score"] for answer in classify(row["file"])}
        with torch.no_grad():
            probabilities = layer(torch.tensor(row["embedding"])).softmax(dim=-1).numpy()
        assert probabilities == pytest.approx([scores[label] for label in classify.model.config.label2id], abs=1e-5)
        assert row["label"] == max(scores, key=scores.get)
        assert row["probability"] == pytest.approx(scores[row["label"]], abs=1e-5)
        assert row["start"] is None
        assert row["duration"] > 0.1
    errors = (tmp_path / "emb" / "_errors.csv").read_text()
    assert "3.wav" in errors
    assert "no readable audio" in errors


@pytest.mark.parametrize("name", sorted({*CONFIGS} - {"logistic-regression", "vit-32-30"}))
def test_each_model_has_an_embedding_of_one_dimension(name, clips, tmp_path):
    embedder = Embedder(str(write_checkpoint(tmp_path, name)), workers=2)
    results = embedder.score_clips([str(clips / "0.wav"), str(clips / "1.wav")])
    assert [result.embedding.shape for result in results] == [(embedder.dimension,)] * 2
    assert embedder.dimension < 100
    assert not np.allclose(results[0].embedding, results[1].embedding)


@pytest.mark.parametrize("kind", ["group norm", "w2v-bert", "whisper", "ast"])
def test_classifiers_of_the_library_have_the_vector_of_their_last_layer(kind, clips, tmp_path):
    embedder = Embedder(str(write_encoder(tmp_path, kind)), workers=1)
    (result,) = embedder.score_clips([str(clips / "0.wav")])
    layer = find_classifier(embedder.model)
    with torch.no_grad():
        probabilities = layer(torch.tensor(result.embedding)).softmax(dim=-1).numpy()
    assert probabilities == pytest.approx(result.probabilities, abs=1e-6)
    assert result.embedding.shape == (embedder.dimension,)


@pytest.mark.parametrize("load", [load_encoder, load_probe])
def test_heads_of_this_package_have_pooled_hidden_states(load, clips, tmp_path):
    model, extractor = load(write_encoder(tmp_path / "encoder", "layer norm"), LABELS, {}, SECONDS)
    model.save_pretrained(tmp_path / "checkpoint")
    extractor.save_pretrained(tmp_path / "checkpoint")
    embedder = Embedder(str(tmp_path / "checkpoint"), workers=1)
    alone, shorter = (embedder.score_clips([str(clips / f"{number}.wav")])[0] for number in (0, 1))
    together = embedder.score_clips([str(clips / "0.wav"), str(clips / "1.wav")])
    assert together[0].embedding == pytest.approx(alone.embedding, abs=1e-5)
    assert together[1].embedding == pytest.approx(shorter.embedding, abs=1e-5)
    assert len(alone.embedding) == embedder.dimension


def test_samples_are_no_embedding(tmp_path):
    write_checkpoint(tmp_path, "logistic-regression")
    with pytest.raises(UserError, match=r"^expected a checkpoint that turns a clip into a vector .* LogisticReg"):
        Embedder(str(tmp_path))


def test_a_start_that_was_killed_goes_on_and_gives_the_same(checkpoint, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FILES_PER_SHARD", 2)
    run_embed(str(checkpoint), [str(clips)], output=tmp_path / "whole")
    write, written = Parts.write, []

    def dies_in_the_second(parts, number, *arguments):
        if written:
            raise KeyboardInterrupt
        written.append(number)
        write(parts, number, *arguments)

    monkeypatch.setattr(Parts, "write", dies_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        run_embed(str(checkpoint), [str(clips)], output=tmp_path / "cut")
    monkeypatch.setattr(Parts, "write", lambda *arguments: written.append(arguments[1]) or write(*arguments))
    run_embed(str(checkpoint), [str(clips)], output=tmp_path / "cut")
    assert written == [0, 1, 2]
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "cut" / file.name).read_bytes() == file.read_bytes()


def test_windows_of_recordings_have_times_and_silence_has_none(checkpoint, clips, tmp_path, capsys):
    rate, noise = 16000, np.random.default_rng(0).uniform(-0.5, 0.5, 16000 * 2)
    folder = tmp_path / "recordings"
    folder.mkdir()
    soundfile.write(folder / "a.wav", np.concatenate((noise, np.zeros(rate * 2), noise[:8100])), rate)
    soundfile.write(folder / "b.wav", np.zeros(rate), rate)
    assert run_embed(str(checkpoint), [str(folder)], output=tmp_path / "emb", window=1.0, hop=0.5) == 3
    assert "windows embedded" in capsys.readouterr().out
    *rows, silent = pq.read_table(tmp_path / "emb").to_pylist()
    assert [(row["start"], row["end"]) for row in rows] == [
        (0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5), (3.5, 4.5), (4, 4.50625),
    ]  # fmt: skip
    assert {row["duration"] for row in rows} == {4.50625}
    assert silent["error"] == "b.wav: expected sound, found silence from start to end; check the recording."
    (window,) = Embedder(str(checkpoint)).score_clips([{"array": noise[8000:24000], "sampling_rate": rate}])
    assert rows[1]["embedding"] == pytest.approx(window.embedding, abs=1e-2)  # begins at a frame, 0.7 ms away


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"output": Path("x.parquet")}, r"^expected --output as a folder, found x\.parquet; give a name without"),
        ({"hop": 0.5}, "^expected --window with --hop, found --hop alone; give both"),
        ({"window": 1.0, "hop": 2.0}, "^expected --hop of at least 0.01 and at most --window 1 s, found 2"),
        ({"window": 3.0}, "^expected --window of at most 1 s, of which the model takes no more, found 3"),
        ({"dataset": "a/b"}, "^expected clips or --dataset, found both or neither"),
    ],
)
def test_flags_that_contradict_are_refused(arguments, sentence, checkpoint, clips, tmp_path):
    with pytest.raises(UserError, match=sentence):
        run_embed(str(checkpoint), [str(clips)], **{"output": tmp_path / "emb", **arguments})


def test_windows_of_a_stream_are_refused_with_its_name(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "in.wav").write_bytes(sound(0))
    with open(tmp_path / "in.wav") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert run_embed(str(checkpoint), ["-"], output=tmp_path / "emb", window=0.5) == 3
    (row,) = pq.read_table(tmp_path / "emb").to_pylist()
    assert row["error"].startswith("<stdin>: expected an audio file with --window, found a row of a table or a stream")


def test_a_long_clip_is_sent_to_windows(checkpoint, tmp_path):
    file = tmp_path / "long.wav"
    soundfile.write(file, np.zeros(61 * 1000), 1000)
    (result,) = Embedder(str(checkpoint)).score_clips([str(file)])
    assert "use hf-vivae embed with --window" in str(result)
