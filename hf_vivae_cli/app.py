"""The subcommands of `hf-vivae`: recipes, with the flags of their scripts, and the uses of a checkpoint."""

import runpy
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(
    name="hf-vivae",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Recognise emotion in non-verbal vocalisation: laughs, screams, moans, gasps.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
# each has its own parser, which also prints its help
RECIPES = {
    "train": "Train a model and score it on unseen clips.",
    "evaluate": "Compare runs, or score a checkpoint.",
    "reproduce": "Train the seven models of the 2022 paper.",
    "explore": "Describe a corpus in tables and figures.",
    "search": "Search hyperparameters with Optuna or Ray.",
    "ablate": "Measure the effect of each part of a recipe.",
    "curve": "Measure the score against the number of speakers.",
    "push": "Push a run to the Hub, with its model card.",
}


def recipes_folder() -> Path:
    """Return the folder of the recipes: in the repository, or in the data folder of the wheel."""
    folders = [Path(__file__).parents[1] / "recipes", Path(sys.prefix, "share", "hf_vivae", "recipes")]
    return next(folder for folder in folders if (folder / "train.py").is_file())


def _add_recipe(name: str, help_text: str) -> None:
    def run(context: typer.Context) -> None:
        script = recipes_folder() / f"{name}.py"
        sys.argv = [str(script), *context.args]
        runpy.run_path(str(script), run_name="__main__")

    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command(name, help=help_text, context_settings=settings, add_help_option=False)(run)


for _name, _help in RECIPES.items():
    _add_recipe(_name, _help)


@app.command()
def doctor() -> None:
    """Check what is installed, what would fail, and how to fix it."""
    from .doctor import report

    raise typer.Exit(report(recipes_folder))


def _checkpoint_command(function: Callable[..., int]) -> Callable[..., int]:
    """Register a subcommand, which returns its exit code; a `UserError` is printed as one sentence."""

    @wraps(function)
    def run(**options: Any) -> None:
        from hf_vivae.cli_parser import run_script  # first, since it explains packages that cannot be imported
        from transformers.utils import logging  # isort: skip

        logging.disable_progress_bar()  # of loading weights
        codes = []
        run_script(lambda _: codes.append(function(**options)))
        raise typer.Exit(codes[0])

    app.command()(run)
    return function


Checkpoint = Annotated[str, typer.Argument(help="Folder of a run or a checkpoint, or Hub id.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a checkpoint on the Hub.")]
Device = Annotated[str | None, typer.Option(help="Device, such as cpu or cuda:1; by default a GPU if there is one.")]
Bf16 = Annotated[
    bool,
    typer.Option(
        "--bf16", help="Compute in bfloat16: faster where the hardware has it; scores change in their third decimal."
    ),
]

# of many clips
Clips = Annotated[
    list[str] | None,
    typer.Argument(help="Files, folders, patterns ('*.wav'), tables (.parquet, .arrow), or - for standard input."),
]
StreamedDataset = Annotated[
    str | None,
    typer.Option("--dataset", help="Dataset to stream: an id on the Hub, or a folder that `datasets` loads."),
]
Split = Annotated[str, typer.Option("--split", help="Split of --dataset.")]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch_size", help="Batch size; by default 8, or 32 with a GPU.", min=1, show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Number of threads; by default one for each core.", min=1, show_default=False),
]


@_checkpoint_command
def predict(
    checkpoint: Checkpoint,
    clips: Clips = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Output file (x.csv, x.jsonl, x.parquet) or folder of Parquet files; by default labels are printed."
        ),
    ] = None,
    dataset: StreamedDataset = None,
    split: Split = "train",
    revision: Revision = None,
    device: Device = None,
    batch_size: BatchSize = None,
    workers: Workers = None,
    bf16: Bf16 = False,
) -> int:
    """Label clips, from one file to an archive of millions.

    Clips that cannot be scored are listed with the reason in a file next to the output, and the exit code is 3. The
    same command continues an interrupted one, and scores changed clips again. With several processes (accelerate
    launch -m hf_vivae_cli predict ...), each scores a share of the clips.
    """
    from hf_vivae.inference.predict import run_predict

    return run_predict(
        checkpoint, clips or [], output=output, dataset=dataset, split=split, revision=revision, device=device,
        batch_size=batch_size, workers=workers, bf16=bf16,
    )  # fmt: skip


@_checkpoint_command
def timeline(
    checkpoint: Checkpoint,
    recordings: Annotated[
        list[str], typer.Argument(help="Audio files of any length, folders, or patterns ('*.wav').")
    ],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            help="Output file of one recording (x.TextGrid, x.eaf, x.csv, x.png, ...; repeatable), or folder; by "
            "default segments are printed."
        ),
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option(help="Format of each recording's file in the folder; repeatable.", show_default=".TextGrid"),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(
            help="Length of a window, in seconds; by default that of the checkpoint, else 1.", show_default=False
        ),
    ] = None,
    hop: Annotated[
        float | None,
        typer.Option(
            help="Step from one window to the next, in seconds; by default that of the checkpoint, else 0.25.",
            show_default=False,
        ),
    ] = None,
    gate_db: Annotated[
        float | None,
        typer.Option(
            "--gate_db",
            help="Threshold of silence, in dB below the recording's loud parts; by default that of the checkpoint, "
            "else 40.",
            show_default=False,
        ),
    ] = None,
    min_seconds: Annotated[
        float | None,
        typer.Option(
            "--min_seconds",
            help="Leave out segments shorter than this; by default as the checkpoint, else 0.",
            show_default=False,
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            "--min_score",
            help="Leave out segments with a mean probability below this; by default as the checkpoint, else 0.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Annotations to compare with: a file, or a folder with one for each recording."),
    ] = None,
    tier: Annotated[
        str | None, typer.Option(help="Tier (of a table, the column) of the labels of --reference.")
    ] = None,
    label_map: Annotated[
        Path | None,
        typer.Option("--label_map", help="YAML file with the checkpoint's label for each label of --reference."),
    ] = None,
    collar: Annotated[
        float | None,
        typer.Option(
            help="Seconds by which times of segments may differ from those of --reference; by default 0.2.",
            show_default=False,
        ),
    ] = None,
    fit: Annotated[
        bool,
        typer.Option(
            "--fit",
            help="Fit --gate_db, --min_score and --min_seconds on these recordings with --reference, and store them "
            "in the checkpoint, with --window and --hop.",
        ),
    ] = False,
    revision: Revision = None,
    device: Device = None,
    bf16: Bf16 = False,
) -> int:
    """Label the parts of long recordings over time.

    A folder gets a file of each recording, a table of all segments (segments.csv) and the seconds of each label
    (summary.csv). Recordings that cannot be used are listed with the reason in _errors.csv, and the exit code is 3.
    The same command continues an interrupted one, and several processes share it, as for predict.
    """
    from hf_vivae.timelines.references import make_reference
    from hf_vivae.timelines.run import run_timeline
    from hf_vivae.timelines.thresholds import run_fit

    annotations = make_reference(reference, tier, label_map, collar, fit=fit, outputs=output)
    if annotations and fit:
        return run_fit(
            checkpoint, recordings, annotations, window=window, hop=hop, gate_db=gate_db, min_seconds=min_seconds,
            min_score=min_score, revision=revision, device=device, bf16=bf16,
        )  # fmt: skip
    return run_timeline(
        checkpoint, recordings, outputs=output or [], formats=format or [], window=window, hop=hop, gate_db=gate_db,
        min_seconds=min_seconds, min_score=min_score, revision=revision, device=device, bf16=bf16,
        reference=annotations,
    )  # fmt: skip


@_checkpoint_command
def embed(
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option(help="Folder for Parquet files and their index.")],
    clips: Clips = None,
    window: Annotated[
        float | None, typer.Option(help="Embed windows of this length, in seconds, of recordings of any length.")
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Step from one window to the next, in seconds; by default --window.")
    ] = None,
    dataset: StreamedDataset = None,
    split: Split = "train",
    revision: Revision = None,
    device: Device = None,
    batch_size: BatchSize = None,
    workers: Workers = None,
    bf16: Bf16 = False,
) -> int:
    """Write embeddings of clips or windows, with an index.

    The same command continues an interrupted one, as with `predict`, and several processes share the work.
    """
    from hf_vivae.embeddings.run import run_embed

    return run_embed(
        checkpoint, clips or [], output=output, window=window, hop=hop, dataset=dataset, split=split,
        revision=revision, device=device, batch_size=batch_size, workers=workers, bf16=bf16,
    )  # fmt: skip


@_checkpoint_command
def similar(
    clip: Annotated[str, typer.Argument(help="Audio file.")],
    index: Annotated[Path, typer.Option(help="Folder that `embed` has written.")],
    count: Annotated[int, typer.Option(help="Number of clips to print.", min=1)] = 10,
    checkpoint: Annotated[
        str | None, typer.Option(help="Where the checkpoint of --index is now; by default where it was.")
    ] = None,
    device: Device = None,
) -> int:
    """Print the clips of an archive that are nearest to one."""
    from hf_vivae.embeddings.index import run_similar

    return run_similar(clip, index, count=count, checkpoint=checkpoint, device=device)


Embeddings = Annotated[Path, typer.Argument(help="Folder that `embed` has written.")]


@_checkpoint_command
def map(
    embeddings: Embeddings,
    output: Annotated[list[Path], typer.Option(help="Output file: x.png, or x.html, which plays clips; repeatable.")],
    labels: Annotated[
        Path | None, typer.Option(help="Table with columns file and label; by default the checkpoint's own labels.")
    ] = None,
) -> int:
    """Draw embeddings in two dimensions.

    Similar clips are near each other. Clips have the colour of the label that the checkpoint predicts, or that of
    --labels.
    """
    from hf_vivae.embeddings.map import run_map

    return run_map(embeddings, outputs=output, labels=labels)


@_checkpoint_command
def review(
    embeddings: Embeddings,
    output: Annotated[Path, typer.Option(help="Folder for duplicates.csv and doubts.csv.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Table with columns file, label and, if known, speaker; by default the names of folders."),
    ] = None,
    min_similarity: Annotated[
        float, typer.Option("--min_similarity", help="Cosine similarity from which two clips are near-duplicates.")
    ] = 0.95,
) -> int:
    """List near-duplicates and doubtful labels.

    A label is doubtful where most of the most similar clips have another.
    """
    from hf_vivae.embeddings.review import run_review

    return run_review(embeddings, output=output, labels=labels, min_similarity=min_similarity)


@_checkpoint_command
def explain(
    checkpoint: Checkpoint,
    clip: Annotated[Path, typer.Argument(help="Audio file.")],
    output: Annotated[Path, typer.Option(help="x.png (figure) or x.npz (arrays).")] = Path("explanation.png"),
    method: Annotated[
        Literal["occlusion", "gradient"],
        typer.Option(
            help="Method: occlusion silences one part after another; gradient needs a model of a mel spectrogram."
        ),
    ] = "occlusion",
    label: Annotated[str | None, typer.Option(help="Label to explain; by default the likeliest.")] = None,
    revision: Revision = None,
    device: Device = None,
) -> int:
    """Show which parts of a clip support its label."""
    from hf_vivae.inference.explain import run_explain

    return run_explain(checkpoint, clip, output=output, method=method, label=label, revision=revision, device=device)


@_checkpoint_command
def export(
    checkpoint: Checkpoint,
    folder: Annotated[Path, typer.Argument(help="New folder for model.onnx, model.int8.onnx and model.json.")],
    int8: Annotated[bool, typer.Option(help="Also write a model with 8-bit weights.")] = True,
    revision: Revision = None,
) -> int:
    """Write a checkpoint as ONNX, which runs without torch.

    The graph takes raw samples and returns probabilities.
    """
    from hf_vivae.inference.export import run_export

    return run_export(checkpoint, folder, int8=int8, revision=revision)


@_checkpoint_command
def demo(
    checkpoints: Annotated[list[str], typer.Argument(help="Folders or Hub ids, selected on the page.")],
    port: Annotated[int | None, typer.Option(help="Port; by default 7860 or the next free one.")] = None,
) -> int:
    """Serve a web page that labels clips.

    Clips are dropped on the page, picked or recorded, and do not leave this machine.
    """
    from hf_vivae.inference.demo import run_demo

    return run_demo(checkpoints, port)
