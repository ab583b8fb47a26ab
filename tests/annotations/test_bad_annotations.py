"""Annotation files of other programs, and files that are damaged: each is read, or refused in one sentence."""

import pytest

from hf_vivae.annotations.read import read_annotations
from hf_vivae.annotations.segment import Annotation, Segment
from hf_vivae.annotations.write import write_annotation
from hf_vivae.validation import UserError

# as Praat 6 writes it, with the intervals of ELAN, which have no colon
TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0 
xmax = 3.5 
tiers? <exists> 
size = 2 
item []: 
    item [1]:
        class = "IntervalTier" 
        name = "emotion" 
        xmin = 0 
        xmax = 3.5 
        intervals: size = 3 
        intervals [1]:
            xmin = 0 
            xmax = 1.25 
            text = "joie ""vraie"" é" 
        intervals [2] 
            xmin = 1.25 
            xmax = 2.5e0 
            text = "" 
        intervals [3]:
            xmin = 2.5 
            xmax = 3.5 
            text = "two
lines" 
    item [2]:
        class = "TextTier" 
        name = "clicks" 
        xmin = 0 
        xmax = 3.5 
        points: size = 1 
        points [1]:
            number = 1.0 
            mark = "click" 
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
3.5
<exists>
2
"IntervalTier"
"emotion"
0
3.5
3
0
1.25
"joie ""vraie"" é"
1.25
2.5
""
2.5
3.5
"two
lines"
"TextTier"
"clicks"
0
3.5
1
1
"click"
"""
SEGMENTS = (Segment(0.0, 1.25, 'joie "vraie" é'), Segment(2.5, 3.5, "two\nlines"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("form", [TEXTGRID, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_textgrid_of_either_form_and_any_unicode_encoding_is_read(form, encoding, newline, tmp_path):
    file = tmp_path / "x.TextGrid"
    mark = "\ufeff" if "16" in encoding else ""
    file.write_bytes((mark + form.replace("\n", newline)).encode(encoding))
    assert read_annotations(file) == [Annotation("x", SEGMENTS, 3.5)]


def textgrid(*tiers: tuple[str, list[tuple[float, float, str]]]) -> str:
    lines = ['"ooTextFile"', '"TextGrid"', "0", "9", "<exists>", str(len(tiers))]
    for name, intervals in tiers:
        lines += ['"IntervalTier"', f'"{name}"', "0", "9", str(len(intervals))]
        lines += [f'{start} {end} "{text}"' for start, end, text in intervals]
    return "\n".join(lines)


JOY, WHO = ("emotion", [(0, 4, "joy"), (4, 6, "")]), ("who", [(0, 3, "anna"), (3, 9, "ben")])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            TEXTGRID[: TEXTGRID.index("intervals [3]")],
            "a time of interval 3 of tier emotion, found the end of the file",
        ),
        (TEXTGRID[: TEXTGRID.index("lines")], "with a text of interval 3 of tier emotion, found the end of the file"),
        (TEXTGRID.replace("xmax = 2.5e0", ""), "with an end of interval 2 of tier emotion, found ''"),
        (SHORT.replace('"TextGrid"', '"Collection"'), "with the object class TextGrid, found 'Collection'; save it"),
        (
            "start,end,label\n0,1,joy\n",
            "expected a TextGrid with the file type ooTextFile, found the end of the file;",
        ),
        (
            SHORT.replace("TextTier", "PitchTier"),
            "expected an IntervalTier or TextTier, found 'PitchTier'; correct it.",
        ),
        (textgrid(("a", [(0, 2, "x"), (1.5, 3, "y")])), "found one from 1.5 s in tier a, where another ends at 2 s;"),
        (textgrid(("a", [(3, 2, "x")])), "an end after the start, found 3 to 2 s in 'x' of tier a; correct it."),
        (textgrid(("a", [(-1, 2, "x")])), "expected times from 0 on .*, found -1 to 2 s in 'x' of tier a"),
        (textgrid(JOY, WHO), "or one of the name labels, found emotion, who; name that of the labels with --tier."),
        (
            textgrid(("a", []), ("b", [(0, 9, "")])),
            "found a, which has none, b, which has none; name that",
        ),
        (textgrid(), "or one of the name labels, found no tiers; name that of the labels with --tier."),
        (
            SHORT.replace("<exists>\n2", "<absent>"),
            "or one of the name labels, found no tiers; name that",
        ),
        (
            textgrid(("labels", [(0, 1, "a")]), ("labels", [])),
            "one tier of the name labels, found 2 of this name among",
        ),
        (
            textgrid(("labels", [(0, 1, "a")]), ("scores", [(0, 1, "high")])),
            "a number as score at 0.5 s, found 'high';",
        ),
        ("", "expected an annotation, found an empty file; write it again."),
    ],
)
def test_a_textgrid_that_cannot_be_read_is_refused_in_one_sentence(text, sentence, tmp_path):
    file = tmp_path / "x.TextGrid"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=sentence) as refusal:
        read_annotations(file)
    assert str(refusal.value).startswith(f"{file}: expected ")


@pytest.mark.parametrize("suffix", [".TextGrid", ".eaf", ".csv", ".tsv", ".txt", ".rttm"])
@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0", b"caf\xe9", b"\xff\xfea", b"a\0b", b"\xef\xbb\xbf \n"])
def test_other_bytes_are_refused_in_one_sentence(data, suffix, tmp_path):
    file = tmp_path / f"x{suffix}"
    file.write_bytes(data)
    with pytest.raises(
        UserError, match=rf"x\{suffix}: expected (text in UTF-8, or in UTF-16|an annotation, found an empt)"
    ):
        read_annotations(file)
    with pytest.raises(UserError, match=rf"expected an annotation file, found .*y\{suffix} \(No such file"):
        read_annotations(tmp_path / f"y{suffix}")


def test_tiers_are_chosen_by_name(tmp_path):
    file = tmp_path / "x.TextGrid"
    file.write_text(textgrid(JOY, WHO, ("e@anna", [(0, 1, "sob")]), ("e@ben", [(0.5, 2, "cry")])))
    (annotation,) = read_annotations(file, "emotion", "who")
    assert annotation.segments == (Segment(0, 4, "joy", None, "anna"),)
    (annotation,) = read_annotations(file, "e")
    assert annotation.segments == (Segment(0, 1, "sob", None, "anna"), Segment(0.5, 2, "cry", None, "ben"))
    with pytest.raises(
        UserError, match=r"of the name emotions, found emotion, who, .* \(did you mean emotion\?\); name"
    ):
        read_annotations(file, "emotions")
    file.write_text(TEXTGRID)
    with pytest.raises(UserError, match=r"expected a tier of intervals, found points in tier clicks; name another."):
        read_annotations(file, "clicks")
    file.write_text(textgrid(JOY, WHO))
    (annotation,) = read_annotations(file, speaker_tier="who")  # the tier of speakers is not that of the labels
    assert annotation.segments == (Segment(0, 4, "joy", None, "anna"),)


# tiers: utterances; words that subdivide them, two of them without a time between; a class of each utterance
EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-01T00:00:00+01:00" FORMAT="3.0" VERSION="3.0"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/data/a%20b.mp4" MIME_TYPE="video/mp4"/>
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/data/a%20b.wav" MIME_TYPE="audio/x-wav" TIME_ORIGIN="250"/>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2"/>
    <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="2000"/>
  </TIME_ORDER>
  <TIER TIER_ID="utterance" PARTICIPANT="Anna" LINGUISTIC_TYPE_REF="u">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts3">
      <ANNOTATION_VALUE>ha ha</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER TIER_ID="words" PARENT_REF="utterance" LINGUISTIC_TYPE_REF="w">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
      <ANNOTATION_VALUE>ha</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
      <ANNOTATION_VALUE></ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER TIER_ID="emotion" PARENT_REF="utterance" LINGUISTIC_TYPE_REF="e">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a4" ANNOTATION_REF="a1">
      <ANNOTATION_VALUE>joy</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER TIER_ID="class of word" PARENT_REF="words" LINGUISTIC_TYPE_REF="e">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a5" ANNOTATION_REF="a2">
      <ANNOTATION_VALUE>laugh</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="u" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""
NEWER = EAF.replace('"3.0"', '"4.1"').replace("<TIME_ORDER>", "<SIGNAL KIND='x'><PART/></SIGNAL><TIME_ORDER>")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("text", [EAF, NEWER], ids=["3.0", "4.1"])
def test_annotations_of_elan_have_the_times_of_those_that_they_refer_to(text, encoding, tmp_path):
    file = tmp_path / "x.eaf"
    file.write_text(text.replace("UTF-8", encoding.upper()), encoding=encoding)
    assert read_annotations(file, "emotion") == [Annotation("a b.wav", (Segment(1.25, 2.25, "joy"),))]
    assert read_annotations(file, "utterance")[0].segments == (Segment(1.25, 2.25, "ha ha", None, "Anna"),)
    assert read_annotations(file, "emotion", "utterance")[0].segments[0].speaker == "ha ha"
    with pytest.raises(
        UserError, match="for each annotation of tier words, found none for 1; align them, or name anoth"
    ):
        read_annotations(file, "words")
    with pytest.raises(UserError, match="tier class of word, found none for 1"):
        read_annotations(file, "class of word")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            NEWER.replace("TIME_SLOT_REF1", "BEGIN"),
            "one of schema 4.1 that lacks .* 'TIME_SLOT_REF1'.; save it in ELAN as",
        ),
        (NEWER.replace('TIME_VALUE="1000"', 'TIME_VALUE="1.0"'), "one of schema 4.1 that lacks"),
        (
            EAF.replace('ANNOTATION_REF="a1"', 'ANNOTATION_REF="a4"'),
            "of schema 3.0 that lacks a part .*KeyError: 'a4'",
        ),
        (EAF[: EAF.index("<LINGUISTIC")], "expected the XML of ELAN, found other text .no element found"),
        ("<html/>", "expected an ANNOTATION_DOCUMENT of ELAN, found html; give another file."),
        (
            EAF[: EAF.index("<TIER ")] + "</ANNOTATION_DOCUMENT>",
            "found no tiers; name that of the labels with",
        ),
        (EAF.replace('"1000"', '"5000"'), "an end after the start, found 5.25 to 2.25 s in 'ha ha' of tier utterance"),
    ],
)
def test_an_eaf_that_cannot_be_read_is_refused_in_one_sentence(text, sentence, tmp_path):
    file = tmp_path / "x.eaf"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=sentence) as refusal:
        read_annotations(file, "utterance" if "5000" in text else None)
    assert str(refusal.value).startswith(f"{file}: expected ")


def test_overlaps_within_a_tier_of_elan_are_refused(tmp_path):
    file = tmp_path / "x.eaf"
    write_annotation(file, Annotation("x", (Segment(0, 1, "a", None, "ann"), Segment(0.5, 2, "b", None, "ben"))))
    text = file.read_text("utf-8")
    start = text.index('<TIER TIER_ID="labels@ben"')
    parts = text[start:].split("</TIER>", 1)
    annotation = parts[0][parts[0].index("<ANNOTATION>") :]
    file.write_text(text[:start].replace("</TIER>", annotation + "</TIER>") + parts[1], encoding="utf-8")
    with pytest.raises(UserError, match=r"found one from 0.5 s in tier labels@ann, where another ends at 1 s"):
        read_annotations(file)


RAVEN = """Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tSpecies
1\tWaveform 1\t1\t1.5\t2.0\ta.wav\t1.5\towl
1\tSpectrogram 1\t1\t1.5\t2.0\ta.wav\t1.5\towl
2\tSpectrogram 1\t1\t61.0\t61.5\tb.wav\t1.0\t"owl" x
"""


def test_a_selection_table_of_several_files_and_views_is_read(tmp_path):
    file = tmp_path / "x.Table.1.selections.txt"
    file.write_text(RAVEN)
    assert read_annotations(file, tier="Species") == [
        Annotation("a.wav", (Segment(1.5, 2.0, "owl"),)),
        Annotation("b.wav", (Segment(1.0, 1.5, '"owl" x'),)),
    ]
    with pytest.raises(UserError, match=r"expected one column label, found .'Selection', .*; add it, or name another"):
        read_annotations(file)
    file.write_text("Selection\tBegin Time (s)\tEnd Time (s)\tlabel\n1\t0\t1\tcall\n")
    assert read_annotations(file) == [Annotation("x", (Segment(0, 1, "call"),))]


def test_tables_name_recordings_and_speakers(tmp_path):
    file = tmp_path / "x.CSV"
    file.write_text(
        "who,start,end,label,file,score,other\nann,1,2,'=joy,a/b.wav,0.5,\nben,0.5,0.75,fear,c.wav,,x\n\nann,0,1,joy,a/b.wav,,\n",
        encoding="utf-16",
    )
    ann = (Segment(0, 1, "joy", None, "ann"), Segment(1, 2, "=joy", 0.5, "ann"))
    expected = [Annotation("a/b.wav", ann), Annotation("c.wav", (Segment(0.5, 0.75, "fear", None, "ben"),))]
    assert read_annotations(file, speaker_tier="who") == expected
    tsv = file.with_suffix(".tsv")
    tsv.write_text("start\tend\tlabel\n")
    assert read_annotations(tsv) == [Annotation("x", ())]


def test_audacity_and_rttm_have_lines_of_their_own(tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("0.1\t0.5\tsob\n\\\t100.0\t4000.0\n1.0\t2.0\tlong laugh 0.75\n")
    assert read_annotations(file) == [
        Annotation("x", (Segment(0.1, 0.5, "sob"), Segment(1.0, 2.0, "long laugh", 0.75)))
    ]
    file = tmp_path / "x.rttm"
    file.write_text(
        ";; comment\nSPKR-INFO a 1 <NA> <NA> <NA> unknown sob <NA>\nSPEAKER a 1 0.5 1.25 <NA> <NA> sob <NA>\n"
        "SPEAKER b%20c 1 0 2 <NA> <NA> long%20laugh <NA> <NA>\n"
    )
    expected = [Annotation("a", (Segment(0.5, 1.75, "sob"),)), Annotation("b c", (Segment(0, 2, "long laugh"),))]
    assert read_annotations(file) == expected


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "x.csv",
            "file,start,end\n",
            r"expected one column label, found \['file', 'start', 'end'\]; add it, or name another w",
        ),
        ("x.csv", "start,end,label\n0,1\n", "expected 3 fields, as in the header, found 2 in row 2; correct it."),
        ("x.csv", "start,end,label\n0,one,joy\n", "expected a number as end of row 2, found 'one'; correct it."),
        ("x.csv", "start,end,label\n0,,joy\n", "expected a number as end of row 2, found ''; correct it."),
        ("x.csv", "start,end,label\n0,inf,joy\n", "expected a number as end of row 2, found 'inf'"),
        ("x.csv", "start,end,label\n2,1,joy\n", "an end after the start, found 2 to 1 s in row 2; correct it."),
        ("x.csv", "start,end,label\n0,1,\n", "expected a label in row 2, found none; add it."),
        ("x.csv", 'start,end,label\n0,1,"jo', "expected a table, found another file .unexpected end of data.;"),
        ("x.csv", "file,start,end,label\n,0,1,a\n", "expected the name of a recording as file of row 2, found none"),
        ("x.tsv", "start,end,label\n0,1,a\n", "expected one column start, found .'start,end,label'."),
        ("x.txt", "0.1 0.5 sob\n", "expected start, end and label between tabs, .* found '0.1 0.5 sob' in line 1;"),
        ("x.txt", "0.5\t0.5\tsob\n", "an end after the start, found 0.5 to 0.5 s in line 1"),
        ("x.rttm", "LEXEME a 1 0 1 ha lex ann 1 <NA>\n", "expected a line SPEAKER of 9 or 10 fields, found 'LEXEME a"),
        (
            "x.rttm",
            "SPEAKER a 1 0 1\n",
            "expected a line SPEAKER of 9 or 10 fields, found 'SPEAKER a 1 0 1' in line 1",
        ),
        ("x.rttm", "SPEAKER a 1 0 1 <NA> <NA> <NA> <NA>\n", "expected a label in line 1, found none; add it."),
    ],
)
def test_a_damaged_table_is_refused_in_one_sentence(name, text, sentence, tmp_path):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(UserError, match=sentence) as refusal:
        read_annotations(file)
    assert str(refusal.value).startswith(f"{file}: expected ")


@pytest.mark.parametrize(("name", "text"), [("x.txt", "0\t1\ta\n"), ("x.rttm", "SPEAKER a 1 0 1 <NA> <NA> b <NA>\n")])
def test_formats_without_tiers_take_no_tier(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=r"expected a file with tiers or columns, found .*; name no tier."):
        read_annotations(tmp_path / name, tier="labels")
