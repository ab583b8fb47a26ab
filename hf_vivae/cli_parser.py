"""What all scripts do: command lines to dataclasses, and errors of this package as one sentence."""

import gc
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from transformers import HfArgumentParser

from .validation import UserError, did_you_mean

Arguments = TypeVar("Arguments")


class Terminated(BaseException):
    """SIGTERM has come. As `KeyboardInterrupt`, it is no error, and nobody who handles errors shall catch it."""


class FlagParser(HfArgumentParser):
    """A parser that says what is wrong in one sentence, instead of printing all that is right."""

    def error(self, message: str) -> NoReturn:
        """Say it as every other error is said.

        Raises:
            ValueError: always.
        """
        raise UserError(f"{message}; see --help for all arguments.")


def parse_flags(arguments: type[Arguments], argv: Sequence[str], description: str) -> Arguments:
    """A dataclass filled from the command line without the program's name.

    Raises:
        ValueError: for unknown or misspelt flags, with the nearest; for values of another type; and for what the
            dataclass refuses.
    """
    parser = FlagParser(arguments, allow_abbrev=False, description=description)
    given, unknown = parser.parse_known_args(list(argv))
    refuse_unknown(unknown, vars(given))
    return arguments(**vars(given))


def refuse_unknown(unknown: Sequence[str], known: Iterable[str]) -> None:
    """Refuse what a parser has left over.

    Args:
        unknown: the words that were left over.
        known: names of the arguments there are, without dashes.

    Raises:
        ValueError: naming the nearest argument, where one is near.
    """
    if unknown:
        flag = unknown[0].split("=")[0]
        nearest = did_you_mean(flag.lstrip("-").replace("-", "_"), known, prefix="--")
        raise UserError(f"unknown argument {flag!r}{nearest}; see --help for all of them.")


def run_script(main: Callable[[list[str]], None]) -> None:
    """Call a script's `main` with its flags.

    Ctrl-C, SIGTERM and `UserError` end it with one sentence; every other exception keeps its traceback.
    """
    # else recipes/evaluate.py would be imported in place of the library `evaluate`
    own = Path(sys.argv[0]).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != own]
    try:
        main(sys.argv[1:])
        leave_processes()
    except KeyboardInterrupt as error:
        _end("interrupted", error, 130)  # as shells do, 128 and the signal's number
    except Terminated as error:
        _end(str(error), error, 143)
    except UserError as error:
        _end(f"error: {error}", error, 1)
    except EOFError:  # typer would say "Aborted!" alone, as if a terminal had been closed
        sys.excepthook(*sys.exc_info())
        sys.exit(1)


def leave_processes() -> None:
    """Leave the process group, if there is one, before the interpreter ends.

    A thread of the group that lets go of a tensor while the interpreter ends aborts it (seen with gloo, torch 2.12).
    The threads are joined once nothing refers to the group. Not for use after an error: other processes may wait in a
    collective for this one.
    """
    distributed = sys.modules.get("torch.distributed")  # help imports no torch
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        gc.collect()  # trainers, which refer to the group by their wrapped model, are rings
        distributed.destroy_process_group()


def _end(sentence: str, error: BaseException, status: int) -> NoReturn:
    tqdm = sys.modules.get("tqdm")
    for bar in list(tqdm.tqdm._instances) if tqdm else []:
        bar.leave = True  # which ends its line; else the sentence stands behind it
        bar.close()
    rank = os.environ.get("RANK", "0")
    # every process says what is wrong, which may be so for it alone; signals come to all of them
    if rank == "0" or isinstance(error, UserError):
        speaker = "" if rank == "0" else f"process {rank}: "
        print(f"{speaker}{sentence}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
    sys.exit(status)
