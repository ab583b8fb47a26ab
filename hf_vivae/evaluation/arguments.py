"""Arguments of `recipes/evaluate.py`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ..cli_parser import FlagParser, Group, refuse_unknown
from ..corpus.arguments import CorpusArguments
from ..validation import UserError

# all others are for checkpoints, with --data
FOR_RUNS = {"runs", "ensemble", "baseline", "output_dir", "data", "cross", "corpora", "unknown"}
GROUPS = (
    Group("Runs to compare", 'runs --baseline "mlp paper"', ("runs", "baseline", "ensemble", "output_dir")),
    Group(
        "Checkpoints to score on other clips",
        "someone/a-model --data folder --data_dir my_clips",
        ("data", "data_dir", "dataset_name", "speaker_pattern", "label_map", "task", "trust_remote_code"),
    ),
    Group(
        "Every run on every corpus",
        "--cross runs/a runs/b --data synthetic --data folder --data_dir my_clips",
        ("cross",),
    ),
    Group("Clips that have none of the labels", "runs/a --unknown speech music", ("unknown", "on_bad_audio")),
)


@dataclass
class EvaluateArguments(CorpusArguments):
    """Configuration of an evaluation: runs to compare, or checkpoints and the clips to score them on.

    Args:
        corpora: with `cross`, the arguments of each corpus: a `--data` with the options that follow it.
    """

    data: str | None = field(
        default=None,
        metadata={"help": "Corpus to score checkpoints on, as for training. Without it, runs are compared."},
    )
    runs: list[str] = field(default_factory=list, init=False)  # the positional arguments
    ensemble: list[str] | None = field(default=None, init=False)  # of `make_parser`, as it may have no names
    cross: bool = field(default=False, init=False)  # of `make_parser`, since RUN may follow
    corpora: list[CorpusArguments] = field(default_factory=list, init=False)
    task: str = field(default="emotion", metadata={"help": "Task of the checkpoints, with --data."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Execute code that is part of a checkpoint."})
    unknown: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Folders of clips that have none of the labels: how well each run tells them from its test clips."
        },
    )
    baseline: str | None = field(
        default=None,
        metadata={"help": "System that all others are compared with; by default all pairs of up to 10 systems."},
    )
    output_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder of tables, figures and report; by default runs/evaluation, runs/cross with --cross, or "
            "runs/open_set with --unknown."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        usable = {*FOR_RUNS, "on_bad_audio"} if self.unknown else FOR_RUNS
        changed = [name for name in self.changed() if name not in usable]
        if changed and self.data is None:
            raise UserError(
                f"expected --data together with --{', --'.join(changed)}, found none; run folders contain their clips."
            )


def make_parser() -> FlagParser:
    """Return the parser of all arguments."""
    parser = FlagParser(
        EvaluateArguments,
        GROUPS,
        usage="%(prog)s RUN [RUN ...] [arguments]",  # --ensemble takes all names after it
        description="Compare runs, or checkpoints on other clips: scores with intervals, differences on the same "
        "clips, and a report.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="Run folder, or a folder with any number; a checkpoint with --data; or a CSV or Parquet file with "
        "predictions of another program.",
    )
    parser.add_argument(
        "--ensemble",
        nargs="*",
        metavar="NAME",
        help="Systems to join, seed by seed, by the mean of their probabilities. Without names, all systems on the "
        "same clips are joined; a single system is joined over its seeds.",
    )
    parser.add_argument(
        "--cross",
        action="store_true",
        help="Score every run on every corpus whose labels it has: several --data, each followed by its own options. "
        "Its own corpus is scored by its own test clips.",
    )
    return parser


def parse_evaluation(argv: list[str]) -> EvaluateArguments:
    """Parse the command line of an evaluation.

    Args:
        argv: the command line without the program's name.

    Raises:
        UserError: for unknown or misspelt arguments, for arguments of a corpus without --data, and for several
            --data without --cross.
    """
    namespace, unknown = make_parser().parse_known_args(argv)
    values = vars(namespace)
    refuse_unknown(unknown, values)
    runs, ensemble, cross = values.pop("runs"), values.pop("ensemble"), values.pop("cross")
    arguments = EvaluateArguments(**values)
    arguments.runs, arguments.ensemble, arguments.cross = runs, ensemble, cross
    if arguments.unknown:
        others = {"--data": arguments.data, "--cross": cross, "--baseline": arguments.baseline}
        others["--ensemble"] = ensemble is not None
        if used := [flag for flag, value in others.items() if value]:
            raise UserError(
                f"--unknown is for runs and their own test clips, found {used[0]}; leave out one of the two."
            )
    kind = "open_set" if arguments.unknown else "cross" if cross else "evaluation"
    arguments.output_dir = arguments.output_dir or f"runs/{kind}"
    starts = [place for place, word in enumerate(argv) if word == "--data" or word.startswith("--data=")]
    if cross:
        arguments.corpora = _parse_corpora(argv, starts)
        if arguments.baseline is not None or ensemble is not None:
            raise UserError("--cross compares no systems; leave out --baseline and --ensemble.")
    elif len(starts) > 1:
        raise UserError(f"expected one --data, found {len(starts)}; add --cross to score on several corpora.")
    return arguments


def _parse_corpora(argv: Sequence[str], starts: Sequence[int]) -> list[CorpusArguments]:
    """Return the corpora of a command line: each is a `--data`, at one of `starts`, with the options up to the next.

    Raises:
        UserError: for no --data, and for options of a corpus before the first one.
    """
    if not starts:
        raise UserError("expected --data for each corpus with --cross, found none; add the corpora to score on.")
    parser = FlagParser(CorpusArguments)
    parts = [argv[: starts[0]], *(argv[start:end] for start, end in pairwise([*starts, len(argv)]))]
    # the words that are no options of a corpus are those of the whole command line, which is parsed already
    first, *corpora = (CorpusArguments(**vars(parser.parse_known_args(part)[0])) for part in parts)
    if early := first.changed():
        raise UserError(
            f"expected the options of a corpus after its --data, found --{early[0]} before the first one; move it."
        )
    return corpora
