"""The recipes as subcommands of `hf-vivae`, with the flags that they have as scripts."""

import runpy
import sys
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

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
# their own parsers say what flags they have
RECIPES = {
    "train": "Train a model and score it on unseen clips.",
    "evaluate": "Compare runs, or score a checkpoint.",
    "reproduce": "Train the seven models of the 2022 report.",
    "explore": "Describe a corpus in numbers and pictures.",
    "search": "Search hyperparameters with Optuna or Ray.",
    "ablate": "Measure what each part of a recipe is worth.",
    "push": "Send a run to the Hub, with its model card.",
}


def recipes_folder() -> Path:
    """Where the recipes are: in the repository, or where the wheel has put them."""
    found = [Path(__file__).parents[1] / "recipes", Path(sys.prefix, "share", "hf_vivae", "recipes")]
    return next(folder for folder in found if (folder / "train.py").is_file())


def _add_recipe(name: str, help_text: str) -> None:
    def run(context: typer.Context) -> None:
        script = recipes_folder() / f"{name}.py"
        sys.argv = [str(script), *context.args]
        runpy.run_path(str(script), run_name="__main__")

    passing = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command(name, help=help_text, context_settings=passing, add_help_option=False)(run)


for _name, _help in RECIPES.items():
    _add_recipe(_name, _help)


@app.command()
def doctor() -> None:
    """Say what is installed, what would fail, and the cure."""
    from .doctor import say_all

    raise typer.Exit(say_all())


class Method(StrEnum):
    """How `explain` finds out."""

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


@app.command()
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
) -> None:
    """Label clips: files, folders, archives of millions.

    Clips that cannot be scored are listed with the reason in a file beside the output, and the exit code is 3. The
    same command goes on where a killed one was, and scores again what has changed. accelerate launch -m hf_vivae_cli
    predict ... shares the clips among processes.
    """
    guarded(
        "predict:run_predict", checkpoint, clips or [], output, dataset, split, revision, device, batch_size,
        workers, bf16,
    )  # fmt: skip


@app.command()
def timeline(
    checkpoint: Checkpoint,
    recording: Annotated[Path, typer.Argument(help="An audio file of any length.")],
    output: Annotated[
        list[Path] | None,
        typer.Option(help="x.csv, x.json, x.txt (labels for Audacity), x.vtt (WebVTT) or x.png; may be repeated."),
    ] = None,
    window: Annotated[float, typer.Option(help="Seconds that the model hears at once.")] = 1.0,
    hop: Annotated[float, typer.Option(help="Seconds from one window to the next.")] = 0.25,
    gate_db: Annotated[
        float, typer.Option("--gate_db", help="What is quieter than the loud parts by more is silence.")
    ] = 40.0,
    min_seconds: Annotated[float, typer.Option("--min_seconds", help="Leave out shorter segments.")] = 0.0,
    min_score: Annotated[
        float, typer.Option("--min_score", help="Leave out segments of a lower mean probability.")
    ] = 0.0,
    revision: Revision = None,
    device: Device = None,
    bf16: Bf16 = False,
) -> None:
    """Say what is heard when in a long recording."""
    guarded(
        "timeline:run_timeline", checkpoint, recording, output or [], window, hop, gate_db, min_seconds,
        min_score, revision, device, bf16,
    )  # fmt: skip


@app.command()
def explain(
    checkpoint: Checkpoint,
    clip: Annotated[Path, typer.Argument(help="A sound file.")],
    output: Annotated[Path, typer.Option(help="x.png, a picture, or x.npz, its arrays.")] = Path("explanation.png"),
    method: Annotated[
        Method,
        typer.Option(
            help="occlusion: silence one part after another; gradient: where the model sees a mel spectrogram."
        ),
    ] = Method.occlusion,
    label: Annotated[str | None, typer.Option(help="Whose score is explained; the likeliest by default.")] = None,
    revision: Revision = None,
    device: Device = None,
) -> None:
    """Show which part of a clip spoke for its label."""
    guarded("explain:run_explain", checkpoint, clip, output, method.value, label, revision, device)


@app.command()
def export(
    checkpoint: Checkpoint,
    folder: Annotated[Path, typer.Argument(help="Is made: model.onnx, model.int8.onnx, model.json.")],
    int8: Annotated[bool, typer.Option(help="Also with weights of 8 bits.")] = True,
    revision: Revision = None,
) -> None:
    """Write a checkpoint as ONNX, which runs without torch.

    Raw samples go in, probabilities come out.
    """
    guarded("export:run_export", checkpoint, folder, int8, revision)


@app.command()
def demo(
    checkpoints: Annotated[list[str], typer.Argument(help="Folders or Hub ids; the page lets its user choose.")],
    port: Annotated[int | None, typer.Option(help="7860 or the next free one by default.")] = None,
) -> None:
    """Serve a web page that labels clips.

    They are dropped, picked or recorded, and do not leave this machine.
    """
    guarded("demo:run_demo", checkpoints, port)


def guarded(command: str, *arguments: Any) -> NoReturn:
    """Run `module:function` of `hf_vivae.inference`, and exit with the code that it returns.

    Errors that the package has put into words leave no trace.
    """
    from hf_vivae.cli_parser import run_script  # first: it puts into words what does not load
    from transformers.utils import logging  # isort: skip

    logging.disable_progress_bar()  # of the loading of weights, which takes a moment

    code = 0

    def main(_: list[str]) -> None:
        nonlocal code
        module, name = command.split(":")
        code = getattr(import_module(f"hf_vivae.inference.{module}"), name)(*arguments)

    run_script(main)
    raise typer.Exit(code)
