"""Sources of clips: VIVAE, the synthetic substitute for it, a folder of labelled clips, or noise.

All of them have the same columns, see `schema.features`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..validation import UserError, check_choice
from .folder import load_folder, read_folder
from .schema import EMOTIONS, GENERATED, INTENSITIES, Corpus, CorpusError, Problems, build_dataset, first_names
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
    "load_folder",
    "load_synthetic",
    "load_vivae",
    "read_folder",
    "read_generated",
    "read_vivae",
    "task_labels",
]

SOURCES = ("vivae", "synthetic", "folder", "noise")


def load_corpus(
    data: str,
    data_dir: str | Path | None = None,
    data_url: str | None = None,
    subset: str = "full",
    allow_partial: bool = False,
    on_bad_audio: str = "error",
    speaker_pattern: str | None = None,
    synthetic_seed: int = 0,
) -> Corpus:
    """Return the corpus of a source, and the problems with its files.

    Args:
        data: one of `SOURCES`.
        data_dir: folder or archive of `vivae`, or the folder of `folder`.
        data_url: another address of VIVAE's archive; `vivae` only.
        subset: "full" or "core"; `vivae` only.
        allow_partial: use the good clips of a VIVAE with missing or extra files; `vivae` only.
        on_bad_audio: "error", or "skip" to leave out clips whose sound cannot be used.
        speaker_pattern: as for `read_folder`; `folder` only.
        synthetic_seed: seed of the generated clips, at least 0; `synthetic` and `noise` only.

    Raises:
        UserError: for an unknown source, an option that the source does not have, and clips that cannot be used.
    """
    check_choice("--data", data, SOURCES)
    unused = {
        "--data_dir": data in GENERATED and data_dir is not None,
        "--data_url": (data != "vivae" or data_dir is not None) and data_url is not None,
        "--subset": data != "vivae" and subset != "full",
        "--allow_partial": data != "vivae" and allow_partial,
        "--speaker_pattern": data != "folder" and speaker_pattern is not None,
        "--synthetic_seed": data not in GENERATED and synthetic_seed != 0,
    }
    if options := [option for option, is_unused in unused.items() if is_unused]:
        source = f"--data {data}" + (" with --data_dir" if options == ["--data_url"] and data_dir else "")
        raise UserError(f"expected only options that {source} has, found {', '.join(options)}; leave them out.")
    if data == "folder":
        if data_dir is None:
            raise UserError(
                "expected the folder of the clips with --data folder, found none; give it with --data_dir."
            )
        return read_folder(data_dir, speaker_pattern, on_bad_audio)
    if data in GENERATED:
        return read_generated(data, synthetic_seed)
    return read_vivae(data_dir, subset, allow_partial, on_bad_audio, data_url or ZENODO_URL)


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
