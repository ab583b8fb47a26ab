"""Mistakes of users end in a sentence that tells what is wrong; defects of ours keep their traceback."""

from pathlib import Path

import pytest
from mistakes import (
    CORPUS,
    FORMER,
    MISTAKES,
    OTHER,
    SENTENCE,
    TRACEBACK,
    TRAIN_MLP,
    WORKS,
    Mistake,
    classify,
    make_inputs,
    run_mistake,
)

BREAK = """
import {module}
def broken(*_, **__):
    raise ValueError("a defect of ours")
{module}.{function} = broken
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("inputs").resolve()
    make_inputs(root)
    return root


def test_the_list_has_as_many_of_each_group_as_were_counted():
    assert [len(mistakes) for mistakes in MISTAKES.values()] == [21, 26, 28, 41, 25]
    commands = [(mistake.command, *mistake.variables) for mistakes in MISTAKES.values() for mistake in mistakes]
    assert len(set(commands)) == 116 + 25


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(
            mistake,
            id=f"{group.split(',')[0]}-{mistake.what}",
            marks=[pytest.mark.slow] if number >= FORMER[group] else [],
        )
        for group, mistakes in MISTAKES.items()
        for number, mistake in enumerate(mistakes)
    ],
)
def test_a_mistake_ends_in_a_sentence_that_tells_what_is_wrong_or_works(mistake, inputs):
    end = run_mistake(inputs, mistake)
    assert end.kind == mistake.ends, end.sentence
    assert mistake.says in end.sentence


@pytest.mark.parametrize(
    ("module", "function", "command"),
    [
        ("hf_vivae.inference.predict", "find_shards", "predict ../good ../corpus"),
        ("hf_vivae.training.run", "find_checkpoint", TRAIN_MLP),
        ("hf_vivae.exploration.describe", "explore", f"explore {CORPUS}"),
    ],
)
def test_a_defect_of_ours_keeps_its_traceback(module, function, command, inputs):
    end = run_mistake(inputs, Mistake("a defect", command, ""), BREAK.format(module=module, function=function))
    assert end.kind == TRACEBACK
    assert end.sentence == "ValueError: a defect of ours"


@pytest.mark.parametrize(
    ("code", "errors", "kind"),
    [
        (1, "a warning\nerror: expected x, found y.\n", SENTENCE),
        (1, "error: expected x, found y.\nin fold S01, run folder run\n", SENTENCE),
        (1, "error: expected x, found y.\nand a second line\n", OTHER),
        (1, "error: expected x, found y.\nerror: expected z.\n", OTHER),
        (1, "something went wrong\n", OTHER),
        (1, "", OTHER),
        (-11, "error: expected x, found y.\n", OTHER),
        (2, "Usage: hf-vivae\n\nError: No such option: --x\n", SENTENCE),
        (2, "No such option: --x\n", OTHER),
        (3, "clip.wav: expected sound, found silence\n", SENTENCE),
        (0, "", WORKS),
        (0, "Exception ignored\nTraceback (most recent call last):\n  File\nKeyError: 1\n", TRACEBACK),
    ],
)
def test_an_end_is_what_exit_code_and_errors_are(code, errors, kind):
    assert classify(code, "", errors).kind == kind
