"""Sources of clips: VIVAE, EmoGator, datasets of the Hub, folders of labelled clips, annotated segments of recordings,
a synthetic corpus, or noise.

All of them have the same columns, see `schema.features`.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from ..validation import UserError, check_choice
from .emogator import load_emogator, read_emogator
from .folder import load_folder, read_folder
from .hub_dataset import load_hub_dataset, read_hub_dataset
from .label_map import apply_label_map, read_label_map
from .schema import EMOTIONS, GENERATED, INTENSITIES, Corpus, CorpusError, Problems, build_dataset, first_names
from .segments import read_segments
from .tasks import TASKS, task_labels
from .vivae import ZENODO_URL, load_vivae, read_rows, read_vivae

if TYPE_CHECKING:
    from datasets import Dataset


__all__ = [
    "EMOTIONS",
    "INTENSITIES",
    "SOURCES",
    "TASKS",
    "Corpus",
    "CorpusError",
    "load_corpus",
    "load_emogator",
    "load_folder",
    "load_hub_dataset",
    "load_synthetic",
    "load_vivae",
    "read_emogator",
    "read_folder",
    "read_generated",
    "read_hub_dataset",
    "read_segments",
    "read_vivae",
    "task_labels",
]

SOURCES = ("vivae", "emogator", "hub", "folder", "segments", "synthetic", "noise")
# options of a part of the sources; all others are for each of them
OPTIONS = {
    "data_dir": ("vivae", "emogator", "folder", "segments"),
    "data_url": ("vivae",),
    "subset": ("vivae",),
    "allow_partial": ("vivae", "emogator"),
    "categories": ("emogator",),
    "speaker_pattern": ("folder", "segments"),
    "annotations": ("segments",),
    "tier": ("segments",),
    "speaker_tier": ("segments",),
    "dataset_name": ("hub",),
    "dataset_config": ("hub",),
    "dataset_split": ("hub",),
    "dataset_revision": ("hub",),
    "audio_column": ("hub",),
    "label_column": ("hub",),
    "speaker_column": ("hub",),
    "synthetic_seed": GENERATED,
}


def load_corpus(
    data: str,
    data_dir: str | Path | None = None,
    data_url: str | None = None,
    subset: str = "full",
    allow_partial: bool = False,
    on_bad_audio: str = "error",
    categories: Sequence[str] = ("vivae",),
    speaker_pattern: str | None = None,
    dataset_name: str | None = None,
    dataset_config: str | None = None,
    dataset_split: str | None = None,
    dataset_revision: str | None = None,
    audio_column: str | None = None,
    label_column: str | None = None,
    speaker_column: str | None = None,
    label_map: str | Path | None = None,
    synthetic_seed: int = 0,
    annotations: str | Path | None = None,
    tier: str | None = None,
    speaker_tier: str | None = None,
) -> Corpus:
    """Return the corpus of a source, and the problems with its files.

    Args:
        data: one of `SOURCES`.
        data_dir: folder or archive of `vivae` and `emogator`, or the folder of `folder` and `segments`.
        data_url: another address of VIVAE's archive; `vivae` only.
        subset: "full" or "core"; `vivae` only.
        allow_partial: use the good clips of a corpus with missing or extra files; `vivae` and `emogator` only.
        on_bad_audio: "error", or "skip" to leave out clips whose sound cannot be used.
        categories: as for `read_emogator`; `emogator` only.
        speaker_pattern: as for `read_folder` and `read_segments`; these two only.
        dataset_name: as for `read_hub_dataset`; `hub` only, as the six arguments after it.
        dataset_config: configuration of the dataset.
        dataset_split: split of the dataset; all by default.
        dataset_revision: branch, tag or commit.
        audio_column: column of the clips.
        label_column: column of the labels.
        speaker_column: column of the speakers.
        label_map: file of `read_label_map`, by which the labels of the source are replaced; it takes the place of the
            map that the categories "vivae" are read by.
        synthetic_seed: seed of the generated clips, at least 0; `synthetic` and `noise` only.
        annotations: as for `read_segments`; `segments` only, as the two arguments after it.
        tier: of the labels.
        speaker_tier: of the speakers.

    Raises:
        UserError: for an unknown source, an option that the source does not have, and clips that cannot be used.
    """
    options = {name: value for name, value in locals().items() if name in OPTIONS}
    check_choice("--data", data, SOURCES)
    defaults = {name: parameter.default for name, parameter in signature(load_corpus).parameters.items()}
    options["categories"] = tuple(categories)
    changed = [name for name in OPTIONS if options[name] != defaults[name]]
    unused = [f"--{name}" for name in changed if data not in OPTIONS[name]]
    source = f"--data {data}"
    if not unused and data_url is not None and data_dir is not None:
        unused, source = ["--data_url"], f"{source} with --data_dir"
    if unused:
        raise UserError(f"expected only options that {source} has, found {', '.join(unused)}; leave them out.")
    if data in ("folder", "segments") and data_dir is None:
        content = "clips" if data == "folder" else "recordings"
        raise UserError(
            f"expected the folder of the {content} with --data {data}, found none; give it with --data_dir."
        )
    if data == "folder":
        corpus = read_folder(data_dir, speaker_pattern, on_bad_audio)
    elif data == "segments":
        corpus = read_segments(data_dir, annotations, tier, speaker_tier, speaker_pattern, on_bad_audio)
    elif data in GENERATED:
        corpus = read_generated(data, synthetic_seed)
    elif data == "emogator":
        own_labels = label_map is not None and options["categories"] == ("vivae",)
        corpus = read_emogator(data_dir, "all" if own_labels else categories, allow_partial, on_bad_audio)
    elif data == "hub":
        corpus = read_hub_dataset(
            dataset_name, dataset_config, dataset_split, dataset_revision, audio_column, label_column, speaker_column,
            on_bad_audio,
        )  # fmt: skip
    else:
        corpus = read_vivae(data_dir, subset, allow_partial, on_bad_audio, data_url or ZENODO_URL)
    return corpus if label_map is None else apply_label_map(corpus, read_label_map(label_map))


def load_synthetic(seed: int = 0, cache_dir: str | Path | None = None) -> Dataset:
    """Return the `Dataset` of the synthetic clips, which have VIVAE's 1085 file names (see `synthetic`)."""
    return read_generated("synthetic", seed, cache_dir).dataset


def read_generated(data: str, seed: int = 0, cache_dir: str | Path | None = None) -> Corpus:
    """Read a generated corpus with VIVAE's file names from the cache; generate it on the first call.

    Args:
        data: "synthetic", or "noise": white noise, on which a score that differs from chance shows a leak from
            training to test.
        seed: seed of the clips, at least 0.
        cache_dir: by default that of `hf_vivae.files.cache_folder`.

    Raises:
        CorpusError: for damaged clips in the cache; its `problems` names all of them.
        UserError: for a seed below 0.
    """
    from . import generated, synthetic

    make_corpus = {"synthetic": synthetic.synthesize_corpus, "noise": generated.make_noise_corpus}[data]
    folder = make_corpus(seed, cache_dir)
    problems = Problems()
    try:
        _, rows = read_rows(folder, "full", problems)
        lines = problems.lines()
    except UserError:  # no full_set, or several
        lines = ("not one full_set with clips",)
    if lines:
        raise CorpusError(
            f"expected the {data} clips in {folder} as they were generated, found them damaged "
            f"({first_names(lines)}); delete that folder to generate them again.",
            lines,
        )
    core = generated.stand_in_core([row["file"] for row in rows])
    rows = [row | {"core": in_core} for row, in_core in zip(rows, core, strict=True)]
    return Corpus(data, build_dataset(rows))
