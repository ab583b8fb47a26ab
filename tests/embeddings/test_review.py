"""Near-duplicates, and labels that the neighbours of a clip doubt."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_vivae.embeddings.folder import EMBEDDING
from hf_vivae.embeddings.index import write_index
from hf_vivae.embeddings.review import run_review
from hf_vivae.validation import UserError

WIDTH = 8


def write_embeddings(folder: Path, files: list[str], vectors: np.ndarray) -> Path:
    """Write a folder as `embed` does, in parts of ten rows, of which the last row of each is an error."""
    folder.mkdir()
    texts = [(name, pa.string()) for name in ("file", "label", "error")]
    numbers = [(name, pa.float64()) for name in ("start", "end", "probability")]
    schema = pa.schema([*texts, *numbers, (EMBEDDING, pa.list_(pa.float32(), WIDTH))])
    rows = [{"file": file, EMBEDDING: vector} for file, vector in zip(files, vectors.astype(np.float32), strict=True)]
    for part, first in enumerate(range(0, len(rows), 9)):
        failed = {"file": "broken.wav", "error": "expected sound, found none."}
        table = pa.Table.from_pylist([*rows[first : first + 9], failed], schema)
        pq.write_table(table, folder / f"part-{part:06}.parquet")
    write_index(folder, SimpleNamespace(identity="a", name="b", revision=None, dimension=WIDTH, bf16=False))
    return folder


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def clusters(tmp_path_factory) -> Path:
    """Ten clips of each of two labels, far apart; `anger/3.wav` is among those of fear, and `fear/5.wav` copies 4."""
    rng = np.random.default_rng(0)
    centres = np.eye(2, WIDTH)
    vectors = np.repeat(centres, 10, axis=0) + 0.3 * rng.standard_normal((20, WIDTH))
    vectors[3] = centres[1] + 0.05 * rng.standard_normal(WIDTH)
    vectors[15] = 2 * vectors[14] + 1e-4
    files = [f"/data/{label}/{number}.wav" for label in ("anger", "fear") for number in range(10)]
    return write_embeddings(tmp_path_factory.mktemp("clusters") / "emb", files, vectors)


def test_a_copy_and_a_wrong_label_are_listed_and_no_other(clusters, tmp_path, capsys):
    assert run_review(clusters, output=tmp_path, min_similarity=0.999) == 0
    (pair,) = read(tmp_path / "duplicates.csv")
    assert (pair["file"], pair["other_file"]) == ("/data/fear/4.wav", "/data/fear/5.wav")
    assert 0.999 <= float(pair["similarity"]) <= 1  # also where 16 bits round up
    (doubt,) = read(tmp_path / "doubts.csv")
    assert doubt == {
        "file": "/data/anger/3.wav", "start": "", "end": "", "label": "anger", "neighbours_label": "fear",
        "share": "1.00", "neighbours": "10",
    }  # fmt: skip
    out = capsys.readouterr().out
    assert "1 pairs of near-duplicates" in out
    assert "1 of 20 labels that their neighbours doubt" in out
    with pytest.raises(UserError, match=r"^expected a new file as --output, found .*duplicates\.csv"):
        run_review(clusters, output=tmp_path)


def test_neighbours_of_the_same_speaker_have_no_vote(clusters, tmp_path, capsys):
    table = tmp_path / "labels.csv"
    lines = [f"fear/{number}.wav,fear,A" for number in range(9)]
    lines += [f"anger/{number}.wav,anger,{'A' if number == 3 else 'B'}" for number in range(10)]
    table.write_text("\n".join(["file,label,speaker", *lines]))
    run_review(clusters, output=tmp_path / "out", labels=table)
    # the clips near anger/3.wav are of its speaker, and fear/9.wav has no label: those of anger alone have a vote
    assert "/data/anger/3.wav" not in {row["file"] for row in read(tmp_path / "out" / "doubts.csv")}
    assert "1 rows have no label in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"^expected --labels as a file of \.csv, \.jsonl, \.parquet, found .*labels\.csv"),
        ("file,label\nx.wav,anger\n", r"^expected at least two labels in .*labels\.csv .*, found none; give another"),
        ("file,word\n1.wav,anger\n", r"^expected a file and a label in each row of .*labels\.csv, found"),
    ],
)
def test_tables_without_labels_are_refused(content, sentence, clusters, tmp_path):
    if content:
        (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(UserError, match=sentence):
        run_review(clusters, output=tmp_path / "out", labels=tmp_path / "labels.csv")
    with pytest.raises(UserError, match=r"^expected --min_similarity above 0 and at most 1, found 1\.5"):
        run_review(clusters, output=tmp_path / "out", min_similarity=1.5)


def test_files_of_one_folder_have_no_labels_to_doubt(tmp_path, capsys):
    vectors = np.ones((2, WIDTH))
    folder = write_embeddings(tmp_path / "emb", ["clips/a.wav", "clips/b.wav"], vectors)
    assert run_review(folder, output=tmp_path / "out") == 0
    (pair,) = read(tmp_path / "out" / "duplicates.csv")
    assert (pair["file"], pair["other_file"]) == ("clips/a.wav", "clips/b.wav")
    assert float(pair["similarity"]) == pytest.approx(1, abs=1e-3)
    assert not (tmp_path / "out" / "doubts.csv").exists()
    assert "All files lie in one folder, so that no label is judged; give a table" in capsys.readouterr().out
