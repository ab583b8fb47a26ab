"""Compare runs, or checkpoints on other clips: scores with intervals, differences on the same clips, and one report.

python recipes/evaluate.py runs
python recipes/evaluate.py runs/synthetic other_machine/runs --baseline "mlp paper" --output_dir comparison
python recipes/evaluate.py runs --ensemble "mlp tuned" "vit-32-30 tuned"
python recipes/evaluate.py runs/.../1-of-5 someone/a-model --data folder --data_dir my_clips
"""

from dataclasses import dataclass, field, fields
from pathlib import Path

from hf_vivae.cli_parser import FlagParser, refuse_unknown, run_script
from hf_vivae.corpus.arguments import CorpusArguments
from hf_vivae.validation import UserError


@dataclass
class EvaluateArguments(CorpusArguments):
    """What to compare with or to score, and where tables, figures and report go."""

    data: str | None = field(
        default=None,
        metadata={"help": "Score checkpoints on this corpus: vivae, synthetic, folder or noise; none compares runs."},
    )
    task: str = field(default="emotion", metadata={"help": "Labels that the checkpoints tell apart, with --data."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Execute code that a checkpoint brings along."})
    baseline: str | None = field(
        default=None,
        metadata={"help": "Name of the system that all others are compared with; all pairs of up to 10 by default."},
    )
    output_dir: str = field(default="runs/evaluation", metadata={"help": "Folder of tables, figures and report."})


def make_parser() -> FlagParser:
    """All arguments."""
    parser = FlagParser(
        EvaluateArguments,
        allow_abbrev=False,
        usage="%(prog)s RUN [RUN ...] [arguments]",  # --ensemble takes all names behind it
        description=__doc__.splitlines()[0],
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="Run folder, or a folder with any number; a checkpoint with --data."
    )
    parser.add_argument(
        "--ensemble",
        nargs="*",
        metavar="NAME",
        help="Systems to join, seed by seed, to one more by the mean of their probabilities. "
        "Without names, all on the same clips are joined; a system that is named alone is joined over its seeds.",
    )
    return parser


def main(argv: list[str]) -> None:
    from hf_vivae.evaluation.evaluate import evaluate, format_evaluation
    from hf_vivae.run_folder import check_report_folder

    given, unknown = make_parser().parse_known_args(argv)
    refuse_unknown(unknown, vars(given))
    names, ensemble = vars(given).pop("runs"), vars(given).pop("ensemble")
    arguments = EvaluateArguments(**vars(given))
    if arguments.data is None:
        refuse_without_data(arguments)
    output = Path(arguments.output_dir)
    check_report_folder(output, "groups")
    places = score(names, arguments, output) if arguments.data else [Path(name) for name in names]
    evaluation = evaluate(places, output, arguments.baseline, ensemble)
    print(f"{format_evaluation(evaluation)}\n\nreport   {output / 'report.html'}\ntables   {output / 'tables'}")
    print(f"numbers  {output / 'results.json'}")


def refuse_without_data(arguments: EvaluateArguments) -> None:
    """Refuse what only tells which clips to score checkpoints on."""
    for_scoring = {*(f.name for f in fields(CorpusArguments)), "task", "trust_remote_code"} - {"data"}
    given = [f.name for f in fields(arguments) if f.name in for_scoring and getattr(arguments, f.name) != f.default]
    if given:
        raise UserError(f"expected --data beside --{', --'.join(given)}, found none; run folders know their clips.")


def score(checkpoints: list[str], arguments: EvaluateArguments, output: Path) -> list[Path]:
    """The folders with the checkpoints' predictions of the corpus."""
    from hf_vivae.checkpoints.resolve import resolve_checkpoint
    from hf_vivae.evaluation.rescore import score_checkpoint
    from hf_vivae.files import make_folder
    from hf_vivae.run_folder import SCORED

    trust = arguments.trust_remote_code
    # first, since it fails at once; the corpus may take a minute
    sources = {name: resolve_checkpoint(name, code=trust) for name in checkpoints}
    make_folder(output)
    corpus = arguments.load()
    return [
        score_checkpoint(name, source, corpus, arguments.task, output / SCORED, trust)
        for name, source in sources.items()
    ]


if __name__ == "__main__":
    run_script(main)
