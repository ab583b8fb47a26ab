"""Text that strangers chose: it does nothing to terminals and spreadsheets, and numbers stay numbers."""

import csv
import io
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_vivae.annotations.segment import Segment
from hf_vivae.inference.timeline import Recording, Timeline
from hf_vivae.reporting.tables import Table, csv_cell
from hf_vivae.timelines.formats import write_timeline
from hf_vivae.validation import JOINERS, printable, readable

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1+cmd", "'+1+cmd"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("a=1", "a=1"),
        ("-0.25", "-0.25"),
        ("+1e-3", "+1e-3"),
        (-0.25, -0.25),
        (None, None),
    ],
)
def test_a_spreadsheet_takes_no_text_for_a_formula_and_each_number_for_one(cell, shown):
    assert csv_cell(cell) == shown


@given(ANY_TEXT)
def test_printed_text_is_one_line_without_control_characters(text):
    shown = printable(text)
    assert not any(unicodedata.category(character)[0] == "C" for character in shown if character not in JOINERS)
    assert len(shown.splitlines()) <= 1
    shown.encode()


@given(ANY_TEXT)
def test_readable_text_can_be_encoded_and_is_the_same_if_it_could_be(text):
    shown = readable(text)
    shown.encode()
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert shown == text


def test_bytes_of_a_name_are_shown_as_they_are():
    name = b"lach\xe9 \x1b[31m \xe3\x81\x82.wav".decode("utf-8", "surrogateescape")
    assert readable(name) == "lach\\xe9 \x1b[31m あ.wav"
    assert printable(name) == "lach\\xe9 \\x1b[31m あ.wav"


def test_letters_that_are_joined_or_not_by_a_character_without_width_are_shown_as_they_are():
    assert printable("می\u200cشم 👩\u200d🔬 \u202e") == "می\u200cشم 👩\u200d🔬 \\u202e"


def test_tables_and_timelines_neutralise_labels(tmp_path):
    table = Table("x", "caption", ("@label", "score"), (("=cmd|calc", -0.5), ("anger", None)), (None, ".2f"))
    assert table.to_csv() == "'@label,score\n'=cmd|calc,-0.5\nanger,\n"
    label = "=cmd|calc\x1b[31m\n"
    recording = Recording(tmp_path / "x.wav", 1.0, 16000)
    timeline = Timeline(recording, [label], 0.5, np.ones((2, 1)), np.zeros(2))
    for suffix in ("csv", "txt", "vtt"):
        write_timeline(tmp_path / f"x.{suffix}", timeline, [Segment(0.0, 1.0, label, 0.5)])
    (row,) = csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text(), newline=""))
    assert row == {"start": "0.000", "end": "1.000", "label": f"'{label}", "score": "0.5000"}
    assert (tmp_path / "x.txt").read_text() == "0.000000\t1.000000\t=cmd|calc\\x1b[31m\\n 0.50\n"
    assert "\n=cmd|calc\\x1b[31m\\n 50%\n" in (tmp_path / "x.vtt").read_text()
