"""Annotations that are written are the same when they are read again, by this package and by the tools' libraries."""

import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hf_vivae.annotations.match import match_recordings
from hf_vivae.annotations.read import READABLE, read_annotations
from hf_vivae.annotations.segment import Annotation, Segment
from hf_vivae.annotations.write import WRITERS, annotation_suffix, write_annotation
from hf_vivae.reporting.tables import csv_cell
from hf_vivae.validation import UserError, printable

# right to left, beyond 16 bits, joined, combining and what formats use as marks
LABELS = [
    "笑い",
    "😂 laughter",
    "👩\u200d🔬",
    "e\u0301lan",
    "ضحك",
    'a "b" ""',
    "50 % <i>{b}</i> &amp;",
    "[1]: !c <d>",
]
ANNOTATION = Annotation(
    "mes sons.wav",
    tuple(Segment(n, n + 0.5, label, 0.5 + n / 100) for n, label in enumerate(LABELS)),
    9.25,
)
SPEAKERS = Annotation(
    "two.wav",
    (
        Segment(0.5, 2.0, "joy", 0.75, "anna"),
        Segment(1.0, 1.5, "fear", 0.5, "ben@home"),
        Segment(2.0, 3.0, "joy", None, "anna"),
        Segment(2.5, 3.5, "anger"),
    ),
    4.0,
)


def write(tmp_path: Path, suffix: str, annotation: Annotation = ANNOTATION) -> Path:
    file = tmp_path / f"x{suffix}"
    write_annotation(file, annotation)
    return file


def labels_of(segments) -> list[str]:
    return [segment.label for segment in segments]


def test_praatio_opens_a_textgrid_with_a_tier_of_labels_and_one_of_scores(tmp_path):
    from praatio import textgrid

    file = write(tmp_path, ".TextGrid")
    grid = textgrid.openTextgrid(str(file), includeEmptyIntervals=True, reportingMode="error")
    assert grid.tierNames == ("labels", "scores")
    assert (grid.minTimestamp, grid.maxTimestamp) == (0, 9.25)
    entries = grid.getTier("labels").entries
    assert [entry.label for entry in entries if entry.label] == LABELS
    assert [entries[0].start, *(entry.end for entry in entries)] == [
        *(n / 2 for n in range(16)),
        9.25,
    ]  # no gaps
    assert [entry.label for entry in grid.getTier("scores").entries][:3] == ["0.5000", "", "0.5100"]
    assert file.read_text("utf-8").startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0')


def test_pympi_opens_an_eaf_with_its_recording(tmp_path):
    import pympi

    eaf = pympi.Eaf(write(tmp_path, ".eaf"))
    assert list(eaf.get_tier_names()) == ["labels", "scores"]
    assert [value for *_, value in sorted(eaf.get_annotation_data_for_tier("labels"))] == LABELS
    assert sorted(eaf.get_annotation_data_for_tier("scores"))[1] == (1000, 1500, "0.5100")
    (media,) = eaf.get_linked_files()
    assert (media["MEDIA_URL"], media["RELATIVE_MEDIA_URL"]) == ("mes%20sons.wav", "./mes%20sons.wav")


def test_pyannote_opens_rttm_and_spaces_of_labels_are_escaped(tmp_path):
    from pyannote.database.util import load_rttm

    (annotation,) = load_rttm(write(tmp_path, ".rttm")).values()
    assert annotation.uri == "mes%20sons"
    tracks = [(segment.start, segment.end, label) for segment, _, label in annotation.itertracks(yield_label=True)]
    assert tracks[1] == (1.0, 1.5, "😂%20laughter")
    assert tracks[6][2] == "50%20%25%20<i>{b}</i>%20&amp;"


def test_pysubs2_opens_srt_and_webvtt(tmp_path):
    import pysubs2

    for suffix in (".srt", ".vtt"):
        events = pysubs2.load(str(write(tmp_path, suffix)), encoding="utf-8").events
        assert [(event.start, event.end) for event in events] == [(1000 * n, 1000 * n + 500) for n in range(8)]
        assert events[1].plaintext == "😂 laughter 51%"
    assert "50 % <i>{b}</i> &amp; 56%\n" in (tmp_path / "x.srt").read_text("utf-8")


def test_crowsetta_opens_a_selection_table_of_raven(tmp_path):
    crowsetta = pytest.importorskip("crowsetta")
    annotation = Annotation("x.wav", (Segment(0.25, 1.5, "笑い", 0.5), Segment(2.0, 2.125, "call")))
    raven = crowsetta.formats.bbox.Raven.from_file(write(tmp_path, ".selections.txt", annotation), annot_col="label")
    assert [(box.onset, box.offset, box.label) for box in raven.to_bbox()] == [
        (0.25, 1.5, "笑い"),
        (2.0, 2.125, "call"),
    ]


@pytest.mark.parametrize("suffix", [".TextGrid", ".eaf"])
def test_speakers_that_overlap_have_a_tier_each(suffix, tmp_path):
    (annotation,) = read_annotations(write(tmp_path, suffix, SPEAKERS))
    assert annotation.segments == tuple(sorted(SPEAKERS.segments, key=lambda segment: segment.start))
    (anna,) = read_annotations(tmp_path / f"x{suffix}", tier="labels@anna")
    assert {segment.speaker for segment in anna.segments} == {"anna"}
    with pytest.raises(
        UserError, match=r"expected segments that do not overlap, .* from 1 s where another ends at 2 s"
    ):
        write(tmp_path, suffix, Annotation("x", (Segment(0, 2, "a"), Segment(1, 3, "b"))))


# format: has scores, has speakers, names the recording
KEPT = {
    ".TextGrid": (True, True, False),
    ".eaf": (True, True, True),
    ".rttm": (False, False, True),
    ".csv": (True, True, False),
    ".tsv": (True, True, True),
    ".txt": (True, False, False),
    ".selections.txt": (True, True, True),
}
CHARACTERS = st.characters(codec="utf-8").filter(lambda character: printable(character) == character)
TEXTS = st.text(CHARACTERS, min_size=1, max_size=8).map(str.strip).filter(bool)


@st.composite
def annotations(draw) -> Annotation:
    """Segments in whole milliseconds, one after another, with scores of two decimals."""
    times = sorted(draw(st.sets(st.integers(0, 20_000), min_size=2, max_size=9)))
    speaker = st.none() | TEXTS
    segments = tuple(
        Segment(start / 1000, end / 1000, draw(TEXTS), draw(st.integers(0, 100)) / 100, draw(speaker))
        for start, end in zip(times[::2], times[1::2], strict=False)
    )
    return Annotation(draw(TEXTS.filter(lambda text: not set(text) & set("/\\?#%:[]."))), segments, 20.5)


@pytest.mark.parametrize("suffix", KEPT)
@given(annotation=annotations())
@settings(max_examples=25, deadline=None)
def test_an_annotation_that_is_read_again_is_the_same(suffix, annotation, tmp_path_factory):
    texts = [text for segment in annotation.segments for text in (segment.label, segment.speaker or "")]
    # an apostrophe of the label itself, in front of a formula
    assume(not any(text.startswith("'") and csv_cell(text[1:]) == text for text in (*texts, annotation.recording)))
    file = write(tmp_path_factory.getbasetemp(), suffix, annotation)
    (again,) = read_annotations(file)
    scores, speakers, name = KEPT[suffix]
    assert again.recording == (annotation.recording if name else "x")
    assert again.segments == tuple(
        Segment(
            segment.start,
            segment.end,
            segment.label,
            segment.score if scores else None,
            segment.speaker if speakers else None,
        )
        for segment in annotation.segments
    )


@pytest.mark.parametrize("suffix", [*KEPT, ".srt", ".vtt"])
def test_a_recording_without_segments_or_scores_can_be_written(suffix, tmp_path):
    file = write(tmp_path, suffix, Annotation("x.wav", (), 2.0))
    if suffix in (".TextGrid", ".eaf", ".csv", ".selections.txt"):
        (annotation,) = read_annotations(file)
        assert annotation.segments == ()
    write(tmp_path, suffix, Annotation("x.wav", (Segment(0.0, 1.0, "sob"),), 2.0))
    if annotation_suffix(file) in KEPT:
        assert read_annotations(file)[0].segments == (Segment(0.0, 1.0, "sob"),)
    else:
        assert "\nsob\n" in file.read_text()


@pytest.mark.parametrize("suffix", [".TextGrid", ".eaf", ".rttm", ".srt", ".tsv", ".selections.txt"])
def test_labels_with_control_characters_stay_one_line(suffix, tmp_path):
    text = write(tmp_path, suffix, Annotation("x.wav", (Segment(0.0, 1.0, "a\x1b[31m\x00b"),))).read_text("utf-8")
    assert re.search(r"a\\x1b\[31m\\x00b", text)


def test_segments_meet_where_sums_of_steps_differ_in_their_last_digit(tmp_path):
    """Praatio refuses intervals that overlap by any amount."""
    segments = (Segment(0.0, 0.1 + 0.2, "a"), Segment(0.3, 1.0, "b"))
    assert segments[0].end > segments[1].start
    (annotation,) = read_annotations(write(tmp_path, ".TextGrid", Annotation("x", segments)))
    assert [(segment.start, segment.end) for segment in annotation.segments] == [(0.0, 0.3), (0.3, 1.0)]


@pytest.mark.parametrize("suffix", [".eaf", ".rttm"])
def test_a_segment_shorter_than_the_resolution_is_refused(suffix, tmp_path):
    with pytest.raises(UserError, match=r"x.wav: expected segments of 1 ms at least, found one from 1.0001 to 1.0002"):
        write(tmp_path, suffix, Annotation("x.wav", (Segment(1.0001, 1.0002, "a"),)))


def test_the_longest_suffix_is_that_of_the_format(tmp_path):
    names = {suffix: annotation_suffix(tmp_path / f"a.b{suffix.upper()}") for suffix in WRITERS}
    assert names == {suffix: suffix for suffix in WRITERS}
    assert annotation_suffix(tmp_path / "x.doc") is None
    with pytest.raises(UserError, match=r"expected a file as \.csv, .*, found x\.doc"):
        write(tmp_path, ".doc")
    with pytest.raises(UserError, match=rf"expected an annotation as {READABLE[0]}, .*, found .*x\.doc"):
        read_annotations(tmp_path / "x.doc")


def test_a_format_without_its_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vivae.annotations.parsing.find_spec", lambda name: None)
    for suffix in (".TextGrid", ".eaf", ".rttm", ".srt"):
        with pytest.raises(UserError, match=r"found none; pip install 'hf_vivae\[annotation\]'"):
            write(tmp_path, suffix)
    write(tmp_path, ".csv")


def test_recordings_are_found_by_name_and_by_stem():
    recordings = [
        Path(name) for name in ("in/a.wav", "in/b.flac", "in/c.1.wav", "in/e\u0301.wav", "x/d.wav", "y/d.wav")
    ]
    names = ("a.wav", "b.wav", "c.1", "\u00e9", "y/d.wav", "x\\d.mp3")
    pairs = match_recordings([Annotation(name, ()) for name in names], recordings)
    assert [path.as_posix() for path, _ in pairs] == [recordings[n].as_posix() for n in (0, 1, 2, 3, 5, 4)]
    assert [annotation.recording for _, annotation in pairs] == list(names)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["d.wav"], "expected one recording for the annotation of d.wav, found 2, such as x/d.wav and y/d.wav; "),
        (["c"], "expected one recording for the annotation of c, found none of this name among 4; rename or add it."),
        (["c.2"], "expected one recording for the annotation of c.2, found none of this name"),
        (["cat.wav"], r"found none of this name among 4 \(did you mean cal.wav\?\)"),
        (["\\xfe.wav"], r"found none of this name among 4 \(did you mean \\xff.wav\?\)"),
        (["cal.wav", "cal"], "expected one annotation of cal.wav, found two; remove one."),
    ],
)
def test_an_annotation_without_one_recording_is_refused(names, sentence):
    recordings = [Path(name) for name in ("x/d.wav", "y/d.wav", "\udcff.wav", "cal.wav")]
    with pytest.raises(UserError, match=sentence):
        match_recordings([Annotation(name, ()) for name in names], recordings)
