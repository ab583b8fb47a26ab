"""Compare runs, or checkpoints on other clips: scores with intervals, differences on the same clips, and a report.

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
    """Arguments of an evaluation: the clips to score checkpoints on, the baseline, and the folder of the report."""

    data: str | None = field(
        default=None,
        metadata={"help": "Score checkpoints on this corpus: vivae, synthetic, folder or noise; none compares runs."},
    )
    task: str = field(default="emotion", metadata={"help": "Task of the checkpoints, with --data."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Execute code that is part of a checkpoint."})
    baseline: str | None = field(
        default=None,
        metadata={"help": "Name of the system that all others are compared with; all pairs of up to 10 by default."},
    )
    output_dir: str = field(default="runs/evaluation", metadata={"help": "Folder of tables, figures and report."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is not None:
            return
        names = {*(f.name for f in fields(CorpusArguments)), "task", "trust_remote_code"} - {"data"}
        given = [f.name for f in fields(self) if f.name in names and getattr(self, f.name) != f.default]
        if given:
            raise UserError(
                f"expected --data together with --{', --'.join(given)}, found none; run folders contain their clips."
            )


def make_parser() -> FlagParser:
    """Return the parser of all arguments."""
    parser = FlagParser(
        EvaluateArguments,
        allow_abbrev=False,
        usage="%(prog)s RUN [RUN ...] [arguments]",  # --ensemble takes all names after it
        description=__doc__.splitlines()[0],
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="Run folder, or a folder with any number; a checkpoint with --data."
    )
    parser.add_argument(
        "--ensemble",
        nargs="*",
        metavar="NAME",
        help="Systems to join, seed by seed, by the mean of their probabilities. Without names, all systems on the "
        "same clips are joined; a single system is joined over its seeds.",
    )
    return parser


def main(argv: list[str]) -> None:
    from hf_vivae.evaluation.evaluate import evaluate, format_evaluation
    from hf_vivae.evaluation.rescore import score_checkpoints
    from hf_vivae.run_folder import check_report_folder

    namespace, unknown = make_parser().parse_known_args(argv)
    values = vars(namespace)
    refuse_unknown(unknown, values)
    runs, ensemble = values.pop("runs"), values.pop("ensemble")
    arguments = EvaluateArguments(**values)
    output = Path(arguments.output_dir)
    check_report_folder(output, "groups")
    if arguments.data:
        runs = score_checkpoints(runs, arguments, arguments.task, output, arguments.trust_remote_code)
    evaluation = evaluate([Path(run) for run in runs], output, arguments.baseline, ensemble)
    print(f"{format_evaluation(evaluation)}\n\nreport   {output / 'report.html'}\ntables   {output / 'tables'}")
    print(f"numbers  {output / 'results.json'}")


if __name__ == "__main__":
    run_script(main)
