"""How a subcommand runs and ends: with an exit code, and what went wrong in one sentence."""

from importlib import import_module
from typing import Any, NoReturn

import typer


def guarded(command: str, *arguments: Any) -> NoReturn:
    """Run `module:function` of `hf_vivae.inference`, and exit with the code that it returns.

    Errors that the package has put into words leave no trace.
    """
    from hf_vivae.flags import run_script  # first: it puts into words what does not load
    from transformers.utils import logging  # isort: skip

    logging.disable_progress_bar()  # of the loading of weights, which takes a moment

    code = 0

    def main(_: list[str]) -> None:
        nonlocal code
        module, name = command.split(":")
        code = getattr(import_module(f"hf_vivae.inference.{module}"), name)(*arguments)

    run_script(main)
    raise typer.Exit(code)
