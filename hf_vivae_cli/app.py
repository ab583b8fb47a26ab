"""The subcommands of `hf-vivae`: recipes, with the flags of their scripts, and the uses of a checkpoint."""

import runpy
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

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
# their flags are those of their own parsers
RECIPES = {
    "train": "Train a model and score it on unseen clips.",
    "evaluate": "Compare runs, or score a checkpoint.",
    "reproduce": "Train the seven models of the 2022 paper.",
    "explore": "Describe a corpus in numbers and pictures.",
    "search": "Search hyperparameters with Optuna or Ray.",
    "ablate": "Measure what each part of a recipe is worth.",
    "push": "Send a run to the Hub, with its model card.",
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
        from hf_vivae.cli_parser import run_script  # first: it explains packages that cannot be imported
        from transformers.utils import logging  # isort: skip

        logging.disable_progress_bar()  # of loading weights, which takes a moment
        codes = []
        run_script(lambda _: codes.append(function(**options)))
        raise typer.Exit(codes[0])

    app.command()(run)
    return function


class Method(StrEnum):
    """Methods of `explain`."""

    occlusion = "occlusion"
    gradient = "gradient"


Checkpoint = Annotated[str, typer.Argument(help="Folder of a run or a checkpoint, or Hub id.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a checkpoint of the Hub.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; a GPU if there is one by default.")]
Bf16 = Annotated[
    bool,
    typer.Option(
        "--bf16", help="Compute in bfloat16: faster where the hardware has it, scores change in their third decimal."
    ),
]


@_checkpoint_command
def predict(
    checkpoint: Checkpoint,
    clips: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, patterns ('*.wav'), tables (.parquet, .arrow), or - for standard input."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="x.csv, x.jsonl or x.parquet; or a folder, which keeps Parquet files. A table here if absent."
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="A dataset of the Hub, or a folder that datasets loads; streamed.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of --dataset.")] = "train",
    revision: Revision = None,
    device: Device = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch_size", help="Clips at once; by default 8, or 32 with a GPU.", min=1, show_default=False),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Threads; by default one for each core.", min=1, show_default=False)
    ] = None,
    bf16: Bf16 = False,
) -> int:
    """Label clips: files, folders, archives of millions.

    Clips that cannot be scored are listed with the reason in a file next to the output, and the exit code is 3. The
    same command continues an interrupted one, and scores changed clips again. accelerate launch -m hf_vivae_cli
    predict ... shares the clips among processes.
    """
    from hf_vivae.inference.predict import run_predict

    return run_predict(
        checkpoint, clips or [], output=output, dataset=dataset, split=split, revision=revision, device=device,
        batch_size=batch_size, workers=workers, bf16=bf16,
    )  # fmt: skip


@_checkpoint_command
def timeline(
    checkpoint: Checkpoint,
    recording: Annotated[Path, typer.Argument(help="An audio file of any length.")],
    output: Annotated[
        list[Path] | None,
        typer.Option(help="x.csv, x.json, x.txt (labels for Audacity), x.vtt (WebVTT) or x.png; may be repeated."),
    ] = None,
    window: Annotated[float, typer.Option(help="Seconds that the model takes at once.")] = 1.0,
    hop: Annotated[float, typer.Option(help="Seconds from one window to the next.")] = 0.25,
    gate_db: Annotated[
        float, typer.Option("--gate_db", help="Parts that are quieter than the loud ones by more are silence.")
    ] = 40.0,
    min_seconds: Annotated[float, typer.Option("--min_seconds", help="Leave out shorter segments.")] = 0.0,
    min_score: Annotated[
        float, typer.Option("--min_score", help="Leave out segments of a lower mean probability.")
    ] = 0.0,
    revision: Revision = None,
    device: Device = None,
    bf16: Bf16 = False,
) -> int:
    """Label the parts of a long recording over time."""
    from hf_vivae.inference.timeline import Windows, run_timeline

    return run_timeline(
        checkpoint, recording, outputs=output or [], windows=Windows(window, hop, gate_db), min_seconds=min_seconds,
        min_score=min_score, revision=revision, device=device, bf16=bf16,
    )  # fmt: skip


@_checkpoint_command
def explain(
    checkpoint: Checkpoint,
    clip: Annotated[Path, typer.Argument(help="A sound file.")],
    output: Annotated[Path, typer.Option(help="x.png, a picture, or x.npz, its arrays.")] = Path("explanation.png"),
    method: Annotated[
        Method,
        typer.Option(
            help="occlusion: silence one part after another; gradient: for models that take a mel spectrogram."
        ),
    ] = Method.occlusion,
    label: Annotated[str | None, typer.Option(help="Whose score is explained; the likeliest by default.")] = None,
    revision: Revision = None,
    device: Device = None,
) -> int:
    """Show which parts of a clip support its label."""
    from hf_vivae.inference.explain import run_explain

    return run_explain(
        checkpoint, clip, output=output, method=method.value, label=label, revision=revision, device=device
    )


@_checkpoint_command
def export(
    checkpoint: Checkpoint,
    folder: Annotated[Path, typer.Argument(help="Folder to make, for model.onnx, model.int8.onnx, model.json.")],
    int8: Annotated[bool, typer.Option(help="Also with weights of 8 bits.")] = True,
    revision: Revision = None,
) -> int:
    """Write a checkpoint as ONNX, which runs without torch.

    Raw samples go in, probabilities come out.
    """
    from hf_vivae.inference.export import run_export

    return run_export(checkpoint, folder, int8=int8, revision=revision)


@_checkpoint_command
def demo(
    checkpoints: Annotated[list[str], typer.Argument(help="Folders or Hub ids; the page lets its user choose.")],
    port: Annotated[int | None, typer.Option(help="7860 or the next free one by default.")] = None,
) -> int:
    """Serve a web page that labels clips.

    They are dropped, picked or recorded, and do not leave this machine.
    """
    from hf_vivae.inference.demo import run_demo

    return run_demo(checkpoints, port)
