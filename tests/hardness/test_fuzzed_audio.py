"""Thousands of damaged sound files: each is decoded or refused by name, in a process with little memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HANG = 1800  # seconds for all files, of which each takes a millisecond or two
WORKER = Path(__file__).with_name("fuzzing.py")
PACKAGE = Path(__file__).parents[2] / "hf_vivae"


@pytest.mark.parametrize("count", [400, pytest.param(5000, marks=pytest.mark.slow)])
def test_damaged_files_are_decoded_or_refused_by_name(count):
    """Memory is limited to 1 GB more than the imports take, so that any larger request would be an error."""
    done = subprocess.run(
        [sys.executable, str(WORKER), str(PACKAGE), str(count)],
        capture_output=True, text=True, timeout=HANG, env=os.environ, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"file {done.stdout.splitlines()[-1:]}: {done.stderr[-2000:]}"
    assert done.stderr == "", "decoders print nothing"
    *_, summary = done.stdout.splitlines()
    print(summary)
    numbers = dict(pair.split("=") for pair in summary.split())
    assert int(numbers["files"]) == count
    assert int(numbers["decoded"]) > count // 20, "not all are refused"
    assert int(numbers["refused"]) > count // 20, "nor decoded"
    assert int(numbers["peak_mb"]) < 1000
