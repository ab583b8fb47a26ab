"""Arguments of `recipes/evaluate.py`."""

from dataclasses import MISSING, dataclass, field, fields

from ..cli_parser import FlagParser, Group, refuse_unknown
from ..corpus.arguments import CorpusArguments
from ..validation import UserError

FOR_RUNS = {"runs", "ensemble", "baseline", "output_dir", "data"}  # all others are for checkpoints, with --data
GROUPS = (
    Group("Runs to compare", 'runs --baseline "mlp paper"', ("runs", "baseline", "ensemble", "output_dir")),
    Group(
        "Checkpoints to score on other clips",
        "someone/a-model --data folder --data_dir my_clips",
        ("data", "data_dir", "dataset_name", "speaker_pattern", "task", "trust_remote_code"),
    ),
)


@dataclass
class EvaluateArguments(CorpusArguments):
    """Configuration of an evaluation: runs to compare, or checkpoints and the clips to score them on."""

    data: str | None = field(
        default=None,
        metadata={"help": "Corpus to score checkpoints on, as for training. Without it, runs are compared."},
    )
    runs: list[str] = field(default_factory=list, init=False)  # the positional arguments
    ensemble: list[str] | None = field(default=None, init=False)  # of `make_parser`, as it may have no names
    task: str = field(default="emotion", metadata={"help": "Task of the checkpoints, with --data."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Execute code that is part of a checkpoint."})
    baseline: str | None = field(
        default=None,
        metadata={"help": "System that all others are compared with; by default all pairs of up to 10 systems."},
    )
    output_dir: str = field(default="runs/evaluation", metadata={"help": "Folder of tables, figures and report."})

    def __post_init__(self) -> None:
        super().__post_init__()
        entries = [entry for entry in fields(self) if entry.name not in FOR_RUNS]
        defaults = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in entries}
        changed = [name for name, default in defaults.items() if getattr(self, name) != default]
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
    return parser


def parse_evaluation(argv: list[str]) -> EvaluateArguments:
    """Parse the command line of an evaluation.

    Args:
        argv: the command line without the program's name.

    Raises:
        UserError: for unknown or misspelt arguments, and for arguments of a corpus without --data.
    """
    namespace, unknown = make_parser().parse_known_args(argv)
    values = vars(namespace)
    refuse_unknown(unknown, values)
    runs, ensemble = values.pop("runs"), values.pop("ensemble")
    arguments = EvaluateArguments(**values)
    arguments.runs, arguments.ensemble = runs, ensemble
    return arguments
