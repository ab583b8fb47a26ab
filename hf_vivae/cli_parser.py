"""Parsing of command lines to dataclasses, and the errors of this package as one sentence."""

import gc
import os
import re
import sys
import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from transformers import HfArgumentParser

from .validation import UserError, did_you_mean

Arguments = TypeVar("Arguments")
WIDTH = 100  # columns of `--help`


class Terminated(BaseException):
    """Exception of SIGTERM; as `KeyboardInterrupt`, no `Exception`, so that handlers of errors do not catch it."""


@dataclass(frozen=True)
class Group:
    """Section of a help text.

    Args:
        title: heading.
        example: arguments of an example of the script.
        names: arguments to show.
    """

    title: str
    example: str
    names: tuple[str, ...]


class FlagParser(HfArgumentParser):
    """Parser of a script, with a short `--help`, a complete `--help_all`, and errors of one sentence.

    Args:
        arguments: dataclasses of the arguments.
        groups: sections of `--help`; by default one for each dataclass and each of its bases.
        base: parser of other arguments that the script takes too, for `--help_all`.
        options: of `argparse.ArgumentParser`; lines after the first of `description` are examples.
    """

    def __init__(
        self, arguments: type | Iterable[type], groups: Sequence[Group] = (), base: HfArgumentParser | None = None,
        **options,
    ) -> None:  # fmt: skip
        super().__init__(arguments, **{"allow_abbrev": False, **options})
        self._groups, self._base = groups, base
        self.add_argument("--help_all", action=_HelpAll, help="show all arguments and exit")

    def error(self, message: str) -> NoReturn:
        """Raise the error of the arguments as `UserError`.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message}; see --help_all for all arguments.")

    def format_help(self) -> str:
        """Return usage, description, and for each argument its first sentence and its default."""
        # a Boolean argument whose default is true has a second action, --no_<name>
        actions = {action.dest: action for action in reversed(self._actions) if action.default != SUPPRESS}
        positional = [f"[{action.metavar} ...]" for action in self._get_positional_actions()]
        usage = self.usage or " ".join(["%(prog)s", *positional, "[arguments]"])
        summary, _, examples = (self.description or "").partition("\n")
        lines = [f"usage: {usage % {'prog': self.prog}}", "", *textwrap.wrap(summary, WIDTH), *examples.splitlines()]
        for group in self._groups or self._groups_of_classes(actions):
            lines += ["", f"{group.title}:", *([f"  {self.prog} {group.example}"] if group.example else [])]
            for name in group.names:
                lines += _describe(actions[name])
        note = (
            f"{f'{self.epilog} ' if self.epilog else ''}--help_all shows all arguments, with their whole descriptions."
        )
        return "\n".join([*lines, "", *textwrap.wrap(note, WIDTH)]) + "\n"

    def _groups_of_classes(self, actions: Mapping[str, Action]) -> list[Group]:
        names, groups = list(reversed(actions)), []
        for base in (base for owner in self.dataclass_types for base in owner.__mro__ if is_dataclass(base)):
            own = tuple(name for name in names if name in vars(base).get("__annotations__", {}))
            groups += [Group(base.__doc__.splitlines()[0].removesuffix("."), "", own)] if own else []
            names = [name for name in names if name not in own]
        return [*([Group("Arguments", "", tuple(names))] if names else []), *groups]

    def format_help_all(self) -> str:
        """Return the description of all arguments, those of `base` included."""
        return "\n".join([super().format_help(), *([self._base.format_help_all()] if self._base else [])])


class _HelpAll(Action):
    def __init__(self, option_strings: Sequence[str], help: str, **_) -> None:
        super().__init__(option_strings, dest=SUPPRESS, default=SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: FlagParser, *_) -> NoReturn:
        print(parser.format_help_all())
        parser.exit()


def _describe(action: Action) -> list[str]:
    """Return the lines of an argument in `--help`."""
    name = f"--{action.dest}" if action.option_strings else action.metavar
    sentence = re.split(r"(?<=[^.]\.)\s", f"{action.help or ''} ")[0].strip().removesuffix(".")
    choices = f" ({', '.join(map(str, action.choices))})" if action.choices and len(action.choices) < 6 else ""
    shown = action.default not in (None, []) and action.default is not False
    default = " ".join(map(str, action.default)) if isinstance(action.default, list) else action.default
    text = f"{sentence.replace('%%', '%')}{choices}{f' [{default}]' if shown else ''}"
    return textwrap.wrap(f"  {name:<29} {text}", WIDTH, break_on_hyphens=False, subsequent_indent=" " * 32)


def parse_flags(arguments: type[Arguments], argv: Sequence[str], description: str) -> Arguments:
    """Return a dataclass filled from the command line without the program's name.

    Raises:
        UserError: for unknown or misspelt flags, with the nearest; for values of another type; and for values that
            the dataclass refuses.
    """
    flags, unknown = FlagParser(arguments, description=description).parse_known_args(list(argv))
    refuse_unknown(unknown, vars(flags))
    return arguments(**vars(flags))


def refuse_unknown(unknown: Sequence[str], known: Iterable[str]) -> None:
    """Refuse words that are no arguments of a parser.

    Args:
        unknown: these words.
        known: names of the parser's arguments, without dashes.

    Raises:
        UserError: for the first word, with the nearest argument where one is near.
    """
    if unknown:
        flag = unknown[0].split("=")[0]
        nearest = did_you_mean(flag.lstrip("-").replace("-", "_"), known, prefix="--")
        raise UserError(f"unknown argument {flag!r}{nearest}; see --help_all for all of them.")


def run_script(main: Callable[[list[str]], None]) -> None:
    """Call the `main` of a script with its arguments.

    Ctrl-C, SIGTERM and `UserError` end it with one sentence; every other exception keeps its traceback.
    """
    # otherwise recipes/evaluate.py would be imported instead of the library `evaluate`
    folder = Path(sys.argv[0]).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != folder]
    if not gc.get_freeze_count():  # once: the garbage of an earlier script in this process would stay for ever
        gc.freeze()  # modules stay to the end; the passes over them, the last one at exit, take most of a second
    try:
        main(sys.argv[1:])
        leave_processes()
    except KeyboardInterrupt as error:
        _end("interrupted", error, 130)  # as shells do, 128 and the signal's number
    except Terminated as error:
        _end(str(error), error, 143)
    except UserError as error:
        _end(f"error: {error}", error, 1)
    except EOFError:  # typer would print "Aborted!" alone
        sys.excepthook(*sys.exc_info())
        sys.exit(1)


def leave_processes() -> None:
    """Leave the process group, if there is one, before the interpreter ends.

    A thread of the group that releases a tensor while the interpreter ends aborts it (observed with gloo, torch 2.12).
    The threads are joined once nothing refers to the group. Not for use after an error: other processes may wait in a
    collective for this one.
    """
    distributed = sys.modules.get("torch.distributed")  # help imports no torch
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        gc.collect()  # trainers refer to the group through their wrapped model, in cycles
        distributed.destroy_process_group()


def _end(sentence: str, error: BaseException, status: int) -> NoReturn:
    tqdm = sys.modules.get("tqdm")
    for bar in list(tqdm.tqdm._instances) if tqdm else []:
        bar.leave = True  # to end its line before the sentence
        bar.close()
    rank = os.environ.get("RANK", "0")
    # an error may be of one process alone, and each prints its own; signals come to all of them
    if rank == "0" or isinstance(error, UserError):
        name = "" if rank == "0" else f"process {rank}: "
        print(f"{name}{sentence}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
    sys.exit(status)
