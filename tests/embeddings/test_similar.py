"""Search by example: the nearest clips of an archive, and indices that do not fit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkpoints_of import write_checkpoint
from predicting import sound
from usearch.index import Index

from hf_vivae.embeddings import index as indices
from hf_vivae.embeddings.embedder import Embedder
from hf_vivae.embeddings.folder import EMBEDDING, EmbeddingFolder, unit_vectors
from hf_vivae.embeddings.index import find_similar, run_similar, write_index
from hf_vivae.embeddings.run import run_embed
from hf_vivae.inference import sources
from hf_vivae.validation import UserError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def archive(checkpoint, tmp_path_factory) -> Path:
    """A folder `emb` with the embeddings of seven clips in three parts, of which one clip is text."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "clips").mkdir()
    for number in range(7):
        (folder / "clips" / f"{number}.wav").write_bytes(sound(number) if number != 1 else b"hello")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "FILES_PER_SHARD", 3)
        run_embed(str(checkpoint), [str(folder / "clips")], output=folder / "emb")
    return folder


@pytest.fixture
def copy(archive, tmp_path) -> Path:
    return Path(shutil.copytree(archive / "emb", tmp_path / "emb"))


def test_a_clip_finds_itself_first_and_the_others_by_cosine(archive, capsys):
    assert run_similar(str(archive / "clips" / "4.wav"), archive / "emb", count=4) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 4
    table = pq.read_table(archive / "emb")
    vectors = dict(zip(table["file"].to_pylist(), table[EMBEDDING].to_pylist(), strict=True))
    query = np.array(vectors.pop(str(archive / "clips" / "4.wav")))
    cosines = {
        file: query @ vector / np.linalg.norm(query) / np.linalg.norm(vector)
        for file, vector in vectors.items()
        if vector is not None
    }
    best = sorted(cosines, key=cosines.get, reverse=True)[:3]
    assert [(line[0], line[1]) for line in lines] == [
        ("1.000", str(archive / "clips" / "4.wav")), *((f"{cosines[file]:.3f}", file) for file in best),
    ]  # fmt: skip
    assert {line[2] for line in lines} == {""}  # no times, since these are whole clips


def test_windows_are_printed_with_their_times(checkpoint, archive, tmp_path, capsys):
    run_embed(str(checkpoint), [str(archive / "clips" / "4.wav")], output=tmp_path / "emb", window=0.25)
    capsys.readouterr()
    run_similar(str(archive / "clips" / "4.wav"), tmp_path / "emb", count=50)
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert "0.25-0.50 s" in {line[2] for line in lines}


def test_the_graph_finds_nearly_all_of_the_nearest_and_is_the_same_each_time(checkpoint, archive, tmp_path):
    rng, embedder = np.random.default_rng(0), Embedder(str(checkpoint))
    embedder.dimension = 32
    vectors = rng.standard_normal((2000, 32)).astype(np.float32) * rng.uniform(0.1, 10, (2000, 1)).astype(np.float32)
    vectors[7] = 0  # has no direction
    texts = [(name, pa.string()) for name in ("file", "label", "error")]
    numbers = [(name, pa.float64()) for name in ("start", "end", "probability")]
    schema = pa.schema([*texts, *numbers, (EMBEDDING, pa.list_(pa.float32(), 32))])
    for name in ("a", "b"):
        for part in range(2):
            rows = [
                {"file": str(1000 * part + number), EMBEDDING: vector}
                for number, vector in enumerate(vectors[1000 * part : 1000 * part + 1000])
            ]
            file = tmp_path / name / f"part-{part:06}.parquet"
            file.parent.mkdir(exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows, schema), file)
        write_index(tmp_path / name, embedder)
    assert (tmp_path / "a" / "_index.usearch").read_bytes() == (tmp_path / "b" / "_index.usearch").read_bytes()
    folder = EmbeddingFolder.open(tmp_path / "a")
    units = unit_vectors(pq.read_table(tmp_path / "a")[EMBEDDING])
    overlap = []
    for query in rng.standard_normal((20, 32)):
        nearest = {str(number) for number in np.argsort(-(units @ query))[:10]}
        overlap.append(len(nearest & {row["file"] for row in find_similar(folder, query, 10)}))
    assert np.mean(overlap) > 9.5


def test_a_second_start_keeps_the_index_and_changed_clips_renew_it(checkpoint, archive, tmp_path, monkeypatch):
    clips = Path(shutil.copytree(archive / "clips", tmp_path / "clips"))
    start = lambda: run_embed(str(checkpoint), [str(clips)], output=tmp_path / "emb")  # noqa: E731
    start()
    before = (tmp_path / "emb" / "_index.usearch").stat().st_mtime_ns
    start()
    assert (tmp_path / "emb" / "_index.usearch").stat().st_mtime_ns == before
    (clips / "0.wav").write_bytes(sound(20))
    start()
    (first, *_) = find_similar(
        EmbeddingFolder.open(tmp_path / "emb"),
        Embedder(str(checkpoint)).score_clips([str(clips / "0.wav")])[0].embedding,
        1,
    )
    assert first["file"].endswith("0.wav")
    assert first["similarity"] == pytest.approx(1, abs=1e-6)


def change_part(folder: Path) -> None:
    file = folder / "part-000001.parquet"
    table = pq.read_table(file)
    vectors = pa.array([[0.5] * len(row) for row in table[EMBEDDING].to_pylist()], table[EMBEDDING].type)
    place = table.schema.get_field_index(EMBEDDING)
    pq.write_table(table.set_column(place, table.schema.field(place), vectors), file)


def write_smaller_index(folder: Path) -> None:
    index = Index(ndim=16, metric="ip", dtype="f16")
    index.add([100], np.ones((1, 16), np.float32))
    index.save(str(folder / "_index.usearch"))


def change_record(folder: Path, **values) -> None:
    record = json.loads((folder / "_index.json").read_text())
    (folder / "_index.json").write_text(json.dumps(record | values))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (shutil.rmtree, "^expected a folder that hf-vivae embed has finished, found .*emb without _index.json"),
        (lambda folder: (folder / "_index.json").unlink(), "^expected a folder that hf-vivae embed has finished"),
        (lambda folder: (folder / "_index.json").write_text("{"), "^expected JSON in .*_index.json, found a damaged"),
        (
            lambda folder: change_record(folder, more=1),
            "^expected the record of an index in .*_index.json, found other",
        ),
        (lambda folder: (folder / "part-000001.parquet").unlink(), "^expected all parts of .*, found no part-000001"),
        (
            lambda folder: (folder / "part-000001.parquet").write_bytes(b"PAR1"),
            "^expected a Parquet file at .*part-000001.parquet, found a damaged one .*; repeat",
        ),
        (change_part, "^expected the part-000001.parquet of the index in .*emb, found another; repeat"),
        (lambda folder: (folder / "_index.usearch").unlink(), "^expected an index of dimension 16 at .*, found none"),
        (
            lambda folder: (folder / "_index.usearch").write_bytes(b"hello"),
            "^expected an index at .*_index.usearch, found a damaged file",
        ),
        (write_smaller_index, "^expected an index of 6 embeddings at .*_index.usearch, found one of 1; repeat"),
        (
            lambda folder: change_record(folder, dimension=15),
            "^expected an index of dimension 15 .*, found one of .* 16",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(damage, sentence, archive, copy):
    damage(copy)
    with pytest.raises(UserError, match=sentence):
        run_similar(str(archive / "clips" / "4.wav"), copy)


@pytest.mark.parametrize("name", ["_index.usearch", "_index.json", "part-000001.parquet"])
def test_a_second_start_repairs_what_is_damaged(name, checkpoint, archive, copy, monkeypatch):
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[:100])
    monkeypatch.setattr(sources, "FILES_PER_SHARD", 3)
    assert run_embed(str(checkpoint), [str(archive / "clips")], output=copy) == 3
    assert (copy / name).read_bytes() == whole


def test_an_index_of_another_checkpoint_is_refused(archive, tmp_path):
    other = write_checkpoint(tmp_path, "mlp")
    with pytest.raises(UserError, match=r"^expected the checkpoint that made .*emb \(\w{12}\), found \w{12} at"):
        run_similar(str(archive / "clips" / "4.wav"), archive / "emb", checkpoint=str(other))


def test_a_checkpoint_that_has_moved_is_given_by_its_new_place(checkpoint, archive, tmp_path, copy, capsys):
    clip = str(archive / "clips" / "4.wav")
    change_record(copy, name=str(tmp_path / "before"))
    with pytest.raises(UserError, match=r"^expected the checkpoint of .*emb at .*before, found none; give its place"):
        run_similar(clip, copy)
    assert run_similar(clip, copy, count=1, checkpoint=str(checkpoint)) == 0
    assert capsys.readouterr().out.startswith("1.000\t")


def test_a_clip_without_sound_and_an_archive_without_embeddings(checkpoint, archive, tmp_path, capsys):
    with pytest.raises(UserError, match="no readable audio"):
        run_similar(str(archive / "clips" / "1.wav"), archive / "emb")
    assert run_embed(str(checkpoint), [str(archive / "clips" / "1.wav")], output=tmp_path / "emb") == 3
    capsys.readouterr()
    with pytest.raises(UserError, match=r"^expected embeddings in .*emb, found none"):
        run_similar(str(archive / "clips" / "4.wav"), tmp_path / "emb")


def test_without_usearch_both_commands_name_the_extra(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(indices, "find_spec", lambda name: None)
    remedy = r"^expected usearch, which hf-vivae {} needs, found none; pip install 'hf_vivae\[embed\]'"
    with pytest.raises(UserError, match=remedy.format("embed")):
        run_embed("nowhere", ["x.wav"], output=tmp_path / "emb")
    with pytest.raises(UserError, match=remedy.format("similar")):
        run_similar("x.wav", archive / "emb")
