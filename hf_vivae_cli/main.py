"""The recipes as subcommands of `hf-vivae`, with the flags that they have as scripts."""

import runpy
import sys
from pathlib import Path

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
