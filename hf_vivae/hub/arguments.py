"""Arguments of `recipes/push.py`."""

from dataclasses import dataclass, field, fields

from ..cli_parser import FlagParser, Group, refuse_unknown
from ..corpus import SOURCES
from ..corpus.arguments import CorpusArguments
from ..splits import SplitArguments
from ..validation import UserError, check_choice
from .client import check_name

FOR_ALL = {"runs", "repo", "license", "yes", "public", "all", "dataset", "space"}  # all others are for a dataset
GROUPS = (
    Group(
        "Models",
        "runs/vivae/tuned/vit-32-30-speaker-k-fold-emotion-seed42 --repo someone/vit-32-30-vivae",
        ("runs", "repo", "yes", "public", "all", "license"),
    ),
    Group(
        "Corpus as a dataset",
        "--dataset --data vivae --repo someone/vivae --license cc-by-nc-4.0",
        ("dataset", "data", "data_dir", "speaker_pattern", "protocol", "seed", "output_dir"),
    ),
    Group("Web page for models on the Hub", "--space someone/vit-32-30-vivae --repo someone/demo", ("space",)),
)


@dataclass
class PushArguments(CorpusArguments, SplitArguments):
    """Configuration of a push: run folders, models of a Space or a corpus, and the repository they go to."""

    runs: list[str] = field(default_factory=list, init=False)  # the positional arguments
    repo: str | None = field(
        default=None,
        metadata={"help": "Repository, owner/name; with --all, the prefix of the names of all repositories."},
    )
    protocol: str = field(
        default="speaker-k-fold", metadata={"help": "Protocol whose first fold gives the dataset's splits."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of the protocol."})
    license: str | None = field(
        default=None,
        metadata={"help": "Identifier of the licence on the Hub, such as cc-by-nc-4.0; with --dataset, of the clips."},
    )
    output_dir: str = field(
        default="runs/dataset",
        metadata={"help": "Folder for the dataset's files: new, empty, or of an earlier push."},
    )
    yes: bool = field(default=False, metadata={"help": "Push the files; by default, they are only shown."})
    public: bool = field(default=False, metadata={"help": "Create public repositories; private by default."})
    all: bool = field(default=False, metadata={"help": "Push all models below the folder, and a collection of them."})
    dataset: bool = field(default=False, metadata={"help": "Push the corpus of --data as a dataset."})
    space: bool = field(
        default=False, metadata={"help": "Push a web page for models on the Hub; RUN is the id of a model."}
    )


def make_parser() -> FlagParser:
    """Return the parser of all arguments."""
    parser = FlagParser(
        PushArguments,
        GROUPS,
        conflict_handler="resolve",
        description="Push runs, or the corpus, to the Hub. Without --yes, the files are only shown.",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="Run folder; with --all, a folder with any number.")
    for entry in fields(PushArguments):
        if entry.name in FOR_ALL and entry.type is bool:  # without a value, since RUN may follow
            parser.add_argument(f"--{entry.name}", action="store_true", help=entry.metadata["help"])
    return parser


def parse_push(argv: list[str]) -> PushArguments:
    """Parse the command line of a push.

    Args:
        argv: the command line without the program's name.

    Raises:
        UserError: for unknown or misspelt arguments, and for arguments that exclude each other.
    """
    namespace, unknown = make_parser().parse_known_args(argv)
    values = vars(namespace)
    refuse_unknown(unknown, values)
    runs = values.pop("runs")
    arguments = PushArguments(**values)
    arguments.runs = runs
    if "/" not in (arguments.repo or ""):
        raise UserError(f"expected --repo owner/name, found {arguments.repo or 'none'}; name a repository.")
    check_name(arguments.repo)
    if arguments.dataset:
        check_choice("--data", arguments.data, SOURCES)
    if not 0 <= arguments.seed < 2**32:
        raise UserError(f"expected --seed of 0 to {2**32 - 1}, found {arguments.seed}; 42 is usual.")
    if arguments.dataset + arguments.all + arguments.space > 1:
        raise UserError("--dataset, --all and --space exclude each other; push them one after the other.")
    if arguments.space and not runs:
        raise UserError("expected Hub ids of models with --space, found none; give one or more.")
    if arguments.dataset == bool(runs):
        found = "both" if runs else "none"
        raise UserError(f"expected a run folder or --dataset, found {found}; give one of the two.")
    if len(runs) > 1 and not arguments.space:
        raise UserError(f"expected one run folder, found {len(runs)}; push them one by one, or all with --all.")
    changed = [
        entry.name
        for entry in fields(arguments)
        if entry.name not in FOR_ALL and getattr(arguments, entry.name) != entry.default
    ]
    if changed and not arguments.dataset:
        raise UserError(
            f"expected --dataset with --{', --'.join(changed)}, found none; leave them out, since run folders record "
            "their clips."
        )
    return arguments
