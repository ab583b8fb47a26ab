"""Corpora and the dataset repositories that are written from them, for tests of both."""

from pathlib import Path

import numpy as np
import soundfile

from hf_vivae.corpus import Corpus, read_folder, task_labels
from hf_vivae.corpus.manifest import read_manifest
from hf_vivae.corpus.schema import Problems, build_dataset
from hf_vivae.corpus.synthetic import synthesize_clip
from hf_vivae.corpus.vivae import read_rows
from hf_vivae.hub.dataset import write_dataset_repo
from hf_vivae.splits import make_folds

CARDS = Path(__file__).parents[2] / "model_cards"
REPO = "someone/clips"
PROTOCOL = {"vivae": "speaker-k-fold", "synthetic": "speaker-k-fold", "folder": "random-80-20"}
LICENSE = {
    "vivae": "cc-by-nc-4.0",
    "emogator": "apache-2.0",
    "synthetic": "apache-2.0",
    "noise": "apache-2.0",
    "folder": "cc-by-sa-4.0",
    "segments": "cc-by-4.0",
}


def write(corpus: Corpus, output: Path, protocol: str = "speaker-k-fold", seed: int = 42) -> Path:
    write_dataset_repo(corpus, protocol, seed, CARDS, REPO, LICENSE[corpus.name], output)
    return output


def synthetic(root: Path) -> Corpus:
    """Two clips of each of six speakers and emotions as the synthesiser makes them."""
    (root / "full_set").mkdir(parents=True)
    taken = {}
    for row in read_manifest():
        taken.setdefault((row["speaker"], row["emotion"]), []).append(row["file_name"])
    for (speaker, _), names in taken.items():
        for name in names[:2] if speaker <= "S06" else []:
            soundfile.write(root / "full_set" / name, synthesize_clip(name), 44100, subtype="PCM_16")
    return Corpus("synthetic", build_dataset(read_rows(root, "full", Problems())[1]))


def folder(root: Path) -> Corpus:
    """A folder of clips: two labels, two rates, FLAC, no speakers, one file that is not audio."""
    rng = np.random.default_rng(0)
    for label in ("a|b", "laugh"):
        (root / label).mkdir(parents=True)
        for take in range(8):
            soundfile.write(root / label / f"{take}.flac", 0.1 * rng.standard_normal(1600), 16000 if take else 8000)
    (root / "laugh" / "broken.wav").write_bytes(b"RIFF")
    return read_folder(root, on_bad_audio="skip")


def write_all(vivae: Corpus, root: Path) -> dict[str, tuple[Corpus, Path]]:
    """VIVAE's names, synthetic clips and a folder: each with its repository below `root`."""
    corpora = {"vivae": vivae, "synthetic": synthetic(root / "made"), "folder": folder(root / "my clips")}
    return {name: (corpus, write(corpus, root / name, PROTOCOL[name])) for name, corpus in corpora.items()}


def expected_rows(corpus: Corpus) -> dict[str, dict]:
    """Rows of the corpus by file name, the sound read here."""
    rows = {}
    for row in corpus.dataset:
        sound = row["audio"]["bytes"] or Path(row["audio"]["path"]).read_bytes()
        rows[row["file"]] = row | {"audio": {"bytes": sound, "path": row["file"].rpartition("/")[2]}}
    return rows


def folds_of(corpus: Corpus, protocol: str):
    return make_folds(corpus.dataset, protocol, task_labels(corpus.dataset, "emotion")[0], 42)
