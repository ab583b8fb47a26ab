"""Compare runs, or checkpoints on other clips: scores with intervals, differences on the same clips, and a report.

python recipes/evaluate.py runs
python recipes/evaluate.py runs their_predictions.csv
python recipes/evaluate.py runs/synthetic other_machine/runs --baseline "mlp paper" --output_dir comparison
python recipes/evaluate.py runs --ensemble "mlp tuned" "vit-32-30 tuned"
python recipes/evaluate.py runs/.../1-of-5 someone/a-model --data folder --data_dir my_clips
python recipes/evaluate.py --cross runs/a runs/b --data synthetic --data folder --data_dir my_clips
python recipes/evaluate.py runs/a --unknown speech music
"""

from pathlib import Path

from hf_vivae.cli_parser import run_script


def main(argv: list[str]) -> None:
    from hf_vivae.corpus.decoded import decode_once
    from hf_vivae.evaluation.arguments import parse_evaluation
    from hf_vivae.evaluation.cross import cross_evaluate
    from hf_vivae.evaluation.cross_report import format_cross, write_cross_report
    from hf_vivae.evaluation.evaluate import evaluate, format_evaluation
    from hf_vivae.evaluation.foreign import is_foreign
    from hf_vivae.evaluation.open_set import evaluate_open_set, write_open_set
    from hf_vivae.evaluation.rescore import score_checkpoints
    from hf_vivae.files import cache_folder
    from hf_vivae.run_folder import check_report_folder

    arguments = parse_evaluation(argv)
    runs, output = list(map(Path, arguments.runs)), Path(arguments.output_dir)
    check_report_folder(output, "open_set" if arguments.unknown else "cross" if arguments.cross else "groups")
    if arguments.unknown:
        with decode_once(cache_folder()):
            table = evaluate_open_set(runs, list(map(Path, arguments.unknown)), arguments.on_bad_audio)
        write_open_set(output, table)
        print(f"{table.to_markdown()}\nnumbers  {output / 'results.json'}")
        return
    if arguments.cross:
        with decode_once(cache_folder()):
            cross = cross_evaluate(arguments.runs, arguments.corpora, arguments.task, arguments.trust_remote_code)
        write_cross_report(output, cross)
        print(f"{format_cross(cross)}\n\nreport   {output / 'report.html'}\nnumbers  {output / 'results.json'}")
        return
    if arguments.data:
        files = [run for run in runs if is_foreign(run)]
        checkpoints = [run for run in arguments.runs if Path(run) not in files]
        with decode_once(cache_folder()):
            scored = score_checkpoints(checkpoints, arguments, arguments.task, output, arguments.trust_remote_code)
        runs = [*scored, *files]
    evaluation = evaluate(runs, output, arguments.baseline, arguments.ensemble)
    print(f"{format_evaluation(evaluation)}\n\nreport   {output / 'report.html'}\ntables   {output / 'tables'}")
    print(f"numbers  {output / 'results.json'}")


if __name__ == "__main__":
    run_script(main)
