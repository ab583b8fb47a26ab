"""Runs that a curve plans, and numbers of speakers that it refuses."""

import re

import pytest
from runner import ROOT
from split_corpora import corpus_of

from hf_vivae.curve.plan import plan_curve, select_runs
from hf_vivae.splits import make_folds
from hf_vivae.training.recipes import parse_run
from hf_vivae.validation import UserError

RECIPES = ROOT / "recipes"
MLP = ["--model", "mlp", "--data", "synthetic"]


def refuses(sentence: str):
    return pytest.raises(UserError, match=f"^{re.escape(sentence)}$")


def folds_of(speakers: int):
    names = [f"S{number:02}" for number in range(speakers) for _ in range(2)]
    return make_folds(corpus_of(names), "speaker-k-fold", [0, 1] * speakers, 42), names


def test_each_number_has_its_draws_and_all_speakers_come_last():
    plan = plan_curve([*MLP, "--speakers", "4", "2", "--draws", "2", "--learning_rate", "0.1"], RECIPES)
    assert str(plan.output) == "runs/synthetic/curve/paper-mlp-speaker-k-fold-emotion"
    of_hub = plan_curve(["--model", "mlp", "--data", "hub", "--dataset_name", "owner/clips"], RECIPES)
    assert str(of_hub.output) == "runs/owner--clips/curve/paper-mlp-speaker-k-fold-emotion"
    runs = [(run.speakers, run.draw, run.folder.relative_to(plan.output / "runs").as_posix()) for run in plan.runs]
    assert runs == [
        (2, 0, "2-speakers/draw0"), (2, 1, "2-speakers/draw1"), (4, 0, "4-speakers/draw0"),
        (4, 1, "4-speakers/draw1"), (None, 0, "all"),
    ]  # fmt: skip
    for run in plan.runs:
        arguments = run.arguments
        assert (arguments.train_speakers, arguments.speaker_draw) == (run.speakers, run.draw)
        assert (arguments.protocol, arguments.folds) == ("speaker-k-fold", [0])
        assert (run.training.output_dir, run.training.learning_rate) == (str(run.folder), 0.1)


def test_protocol_and_folds_are_those_of_the_command_line():
    plan = plan_curve([*MLP, "--protocol", "leave-one-speaker-out", "--folds", "1", "2"], RECIPES)
    assert {(run.arguments.protocol, *run.arguments.folds) for run in plan.runs} == {("leave-one-speaker-out", 1, 2)}


def test_curves_of_two_datasets_have_a_folder_each():
    plan = plan_curve(["--model", "mlp", "--data", "hub", "--dataset_name", "someone/clips"], RECIPES)
    assert str(plan.output) == "runs/someone--clips/curve/paper-mlp-speaker-k-fold-emotion"


def test_default_numbers_that_folds_do_not_have_are_left_out_by_name():
    runs, left_out = select_runs(plan_curve([*MLP, "--draws", "1"], RECIPES), *folds_of(30))
    assert [run.speakers for run in runs] == [10, 20, None]
    assert left_out == ["Not below the 24 speakers of fold 1-of-5, and left out: 40, 80."]
    runs, left_out = select_runs(plan_curve([*MLP, "--draws", "1"], RECIPES), *folds_of(110))
    assert ([run.speakers for run in runs], left_out) == ([10, 20, 40, 80, None], [])


@pytest.mark.parametrize(("flags", "found"), [(["--speakers", "4", "8", "9"], "8, 9"), ([], "10, 20, 40, 80")])
def test_numbers_that_are_not_below_all_speakers_are_refused(flags, found):
    with refuses(
        "expected --speakers from 2 to 7, since 8 speakers train and validate in fold 1-of-5 and all of them are the "
        f"last point in any case, found {found}; give smaller numbers."
    ):
        select_runs(plan_curve([*MLP, *flags], RECIPES), *folds_of(10))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--speakers 4 0", "expected --speakers of 2 or more, one each to train and validate, found 0; give larger "
         "numbers."),
        ("--speakers 4 4", "expected each of --speakers once, found 4 4; --draws gives several draws of each."),
        ("--draws 0", "expected --draws of 1 or more, found 0; 5 show how much the draw matters."),
        ("--train_speakers 4", "a curve draws several numbers of speakers, found --train_speakers 4; give --speakers "
         "and --draws instead."),
        ("--config run.json", "a curve changes the speakers of a run, found --config, which repeats one; give its "
         "--model."),
    ],
)  # fmt: skip
def test_arguments_that_a_curve_does_not_take(flags, sentence):
    with refuses(sentence):
        plan_curve([*MLP, *flags.split()], RECIPES)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--train_speakers 1", "expected --train_speakers of 2 or more, one each to train and validate, found 1; give "
         "more."),
        ("--speaker_draw 1", "expected --speaker_draw of 0 or more together with --train_speakers, found 1 with all "
         "speakers; correct it, or leave it out."),
        ("--train_speakers 2 --speaker_draw -1", "expected --speaker_draw of 0 or more together with "
         "--train_speakers, found -1 with 2 speakers; correct it, or leave it out."),
    ],
)  # fmt: skip
def test_arguments_of_a_run_with_some_speakers(flags, sentence):
    with refuses(sentence):
        parse_run([*MLP, *flags.split()], RECIPES)
