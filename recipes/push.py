"""Push runs, or the corpus, to the Hub: first shown, then with --yes done.

python recipes/push.py runs/vivae/tuned/vit-32-30-speaker-k-fold-emotion-seed42 --repo someone/vit-32-30-vivae
python recipes/push.py --all runs/vivae --repo someone/vivae-study --yes
python recipes/push.py --dataset --data vivae --repo someone/vivae --license cc-by-nc-4.0 --yes
python recipes/push.py --space someone/vit-32-30-vivae --repo someone/demo --yes
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from hf_vivae.cli_parser import FlagParser, refuse_unknown, run_script
from hf_vivae.corpus import SOURCES
from hf_vivae.corpus.arguments import CorpusArguments
from hf_vivae.hub.client import check_name
from hf_vivae.splits import SplitArguments
from hf_vivae.validation import UserError, check_choice

CARDS = Path(__file__).parents[1] / "model_cards"
DEMO = Path(__file__).parents[1] / "demo"


SWITCHES = {
    "yes": "Send it; else it is only shown.",
    "public": "Make repositories that everybody sees; private by default.",
    "all": "Push every model below the folder, and a collection of them.",
    "dataset": "Push the corpus of --data as a dataset, not a run.",
    "space": "Push a web page for models that are on the Hub, RUN being their ids.",
}


@dataclass
class PushArguments(CorpusArguments, SplitArguments):
    """What goes where."""

    repo: str | None = field(
        default=None, metadata={"help": "owner/name; with --all, what the models' names begin with."}
    )
    protocol: str = field(default="speaker-k-fold", metadata={"help": "Whose first fold the dataset's splits are."})
    seed: int = field(default=42, metadata={"help": "Of that protocol."})
    license: str | None = field(
        default=None,
        metadata={
            "help": "Licence of the clips as the Hub names it, such as cc-by-nc-4.0; a dataset's is confirmed so."
        },
    )
    output_dir: str = field(
        default="runs/dataset",
        metadata={"help": "New or empty folder of the dataset's files, or that of an earlier push."},
    )


@dataclass
class Push(PushArguments):
    """With the switches, which take no value: RUN may follow them."""

    yes: bool = False
    public: bool = False
    all: bool = False
    dataset: bool = False
    space: bool = False


def make_parser() -> FlagParser:
    """All arguments."""
    parser = FlagParser(PushArguments, allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help="Run folder; with --all, a folder with any number.")
    for name, said in SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=said)
    return parser


def main(argv: list[str]) -> None:
    given, unknown = make_parser().parse_known_args(argv)
    refuse_unknown(unknown, vars(given))
    places = vars(given).pop("runs")
    arguments = Push(**vars(given))
    check(places, arguments)
    if arguments.dataset:
        push_dataset(arguments)
    elif arguments.space:
        push_space(places, arguments)
    else:
        push_models(Path(places[0]), arguments)


def check(places: Sequence[str], arguments: Push) -> None:
    """Refuse what cannot be meant together."""
    if "/" not in (arguments.repo or ""):
        raise UserError(f"expected --repo owner/name, found {arguments.repo or 'none'}; say where to push.")
    check_name(arguments.repo)
    if arguments.dataset:
        check_choice("--data", arguments.data, SOURCES)
    if not 0 <= arguments.seed < 2**32:
        raise UserError(f"expected --seed of 0 to {2**32 - 1}, found {arguments.seed}; 42 is usual.")
    if arguments.dataset + arguments.all + arguments.space > 1:
        raise UserError("--dataset, --all and --space exclude each other; push them one after the other.")
    if arguments.space and not places:
        raise UserError(
            "expected Hub ids of models for the page to serve beside --space, found none; give one or more."
        )
    if arguments.dataset == bool(places):
        found = "both" if places else "none"
        raise UserError(f"expected a run folder or --dataset, found {found}; give one of the two.")
    if len(places) > 1 and not arguments.space:
        raise UserError(f"expected one run folder, found {len(places)}; push them one by one, or all with --all.")
    of_dataset = {*(f.name for f in fields(CorpusArguments)), "protocol", "duplicates", "seed", "output_dir"}
    known = {f.name: f.default for f in fields(arguments)}
    given = [name for name in known if name in of_dataset and getattr(arguments, name) != known[name]]
    if given and not arguments.dataset:
        raise UserError(f"expected --dataset beside --{', --'.join(given)}, found none; run folders know their clips.")


def push_models(place: Path, arguments: Push) -> None:
    """Show what would be pushed of one model, or of all below a folder; with `yes`, push it."""
    from hf_vivae.hub.client import check_access, push_collection
    from hf_vivae.hub.model_card import Sibling
    from hf_vivae.hub.publication import find_publication, find_publications
    from hf_vivae.hub.push import model_files, name_repos

    if arguments.yes:
        check_access(arguments.repo)
    publications = find_publications(place) if arguments.all else [find_publication(place)]
    repos = name_repos(arguments.repo, publications) if arguments.all else [arguments.repo]
    study = [Sibling(*pair) for pair in zip(repos, publications, strict=True)]
    linked = study if arguments.all else ()
    made = {one.repo: model_files(CARDS, one.repo, one.publication, arguments.license, linked) for one in study}
    for name, files in made.items():
        show(name, "model", files, arguments)
    for name, files in made.items():
        send(name, "model", files, arguments)
    if arguments.all and arguments.yes:
        print(f"collection  {push_collection(arguments.repo, repos, not arguments.public)}")


def push_space(checkpoints: Sequence[str], arguments: Push) -> None:
    """Show the files of a Space that serves these models, or push it."""
    from hf_vivae.hub.client import check_access
    from hf_vivae.hub.push import space_files

    if arguments.yes:
        check_access(arguments.repo)
    files = space_files(DEMO, checkpoints)
    show(arguments.repo, "space", files, arguments)
    send(arguments.repo, "space", files, arguments)


def push_dataset(arguments: Push) -> None:
    """Write the corpus as Parquet with its card, and show what would be pushed; with `yes`, push it."""
    from hf_vivae.hub.client import check_access
    from hf_vivae.hub.dataset import write_dataset_repo
    from hf_vivae.hub.licenses import confirm_license, known_license

    if arguments.yes:
        check_access(arguments.repo)
    shown = None if arguments.yes else known_license(arguments.data)  # confirmed by whoever publishes
    ask = input if sys.stdin.isatty() else None
    license = confirm_license(arguments.data, arguments.license or shown, ask)
    output = Path(arguments.output_dir)
    written = write_dataset_repo(
        arguments.load(),
        arguments.protocol,
        arguments.seed,
        CARDS,
        arguments.repo,
        license,
        output,
        arguments.duplicates,
    )
    files = {str(file.relative_to(output)): file for file in written}
    show(arguments.repo, "dataset", files, arguments)
    send(arguments.repo, "dataset", files, arguments)


def show(repo: str, kind: str, files: dict[str, Path | bytes], arguments: Push) -> None:
    """Every file with its size, and the card as it would be read."""
    print(f"{repo} ({kind}, {'public' if arguments.public else 'private'})")
    for name, content in sorted(files.items()):
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        print(f"  {size:>13,} bytes  {name}")
    card = files["README.md"]
    text = card.decode() if isinstance(card, bytes) else card.read_text(encoding="utf-8")
    print(f"\nREADME.md\n\n{text}\n")


def send(repo: str, kind: str, files: dict[str, Path | bytes], arguments: Push) -> None:
    """Push the files, or say how."""
    from hf_vivae.hub.client import make_repo, push

    if not arguments.yes:
        print("Nothing was sent; add --yes to push.\n")
        return
    make_repo(repo, kind, private=not arguments.public)
    print(f"pushed      {push(files, repo, kind)}\n")


if __name__ == "__main__":
    run_script(main)
