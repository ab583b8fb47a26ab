"""`report.html` has the content of `report.md`, and needs no other file."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from hf_vivae.reporting.report import Code, Picture, Section, write_report
from hf_vivae.reporting.tables import Table

VOID = {"meta", "img", "br", "hr"}
TITLE = "Tiny & quick: synthetic <clips>"
TABLE = Table(
    name="table5",
    caption="Table 5. Accuracy on synthetic clips, the report's (VIVAE) beside it.",
    columns=("model", "accuracy", "what the notebook does"),
    rows=(("vit-32-30", 0.4747, "a|b, <script>alert(1)</script> & a sentence of some length"), ("mlp", None, "short")),
    formats=(None, ".1%", None),
)


class Page(HTMLParser):
    """Elements of a page with their attributes, and its shown text piece by piece; every element must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and "style" not in self.open and "head" not in self.open:
            self.texts.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def sections() -> list[Section]:
    return [
        Section("What was run", ["Eight models, *synthetic* clips.", Code("python x.py --a `b`\n```\n<b>")]),
        Section(
            "Table 5: loss & accuracy", [TABLE, Picture(Path("figures/a b.png"), "Curves of [as_coded], 2 * 3 <4>")]
        ),
        Section(
            "What was run", ["### Versions\n\nRaw <b>HTML</b> is shown.", Picture(Path("figures/wide.png"), "Last.")]
        ),
    ]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "figures").mkdir()
    for name, width in (("a b", 2), ("wide", 10)):
        Figure(figsize=(width, 1), dpi=192).savefig(tmp_path / "figures" / f"{name}.png")
    return tmp_path


@pytest.fixture
def page(folder) -> Page:
    write_report(folder, TITLE, sections())
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_shows_everything_in_order_and_nothing_else(page):
    assert page.texts == [
        TITLE,
        "What was run", "Table 5: loss & accuracy", "What was run",
        "What was run", "Eight models,", "synthetic", "clips.", "python x.py --a `b`\n```\n<b>",
        "Table 5: loss & accuracy", TABLE.caption, *TABLE.columns, *(cell for row in TABLE.texts() for cell in row),
        "Curves of [as_coded], 2 * 3 <4>",
        "What was run", "Versions", "Raw <b>HTML</b> is shown.", "Last.",
    ]  # fmt: skip


def test_the_markdown_shows_what_the_page_shows(folder, page):
    text = (folder / "report.md").read_text(encoding="utf-8")
    plain = re.sub(r"\\([^\w\s])", r"\1", text)
    for piece in page.texts:
        assert piece in plain
    words = [word for piece in page.texts for word in re.findall(r"\w+", piece)]
    shown = re.sub(r"!\[.*|\]\(#.*|\| (---:? \| )*---:? \|", "", text)
    assert re.findall(r"\w+", shown) == words
    assert TABLE.to_markdown() in text


def test_the_page_needs_no_other_file(folder, page):
    addresses = [
        attributes[key]
        for _, attributes in page.elements
        for key in ("src", "href", "srcset", "data")
        if key in attributes
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    style = (folder / "report.html").read_text(encoding="utf-8").split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_pictures_are_embedded_whole_at_their_size_with_their_caption(folder, page):
    small, wide = page.all("img")
    for image, name in ((small, "a b"), (wide, "wide")):
        kind, data = image["src"].split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == (folder / "figures" / f"{name}.png").read_bytes()
    assert (small["width"], small["height"], small["alt"]) == ("192", "96", "Curves of [as_coded], 2 * 3 <4>")
    assert (wide["width"], wide.get("class")) == ("960", "wide")
    assert "class" not in small
    assert len(page.all("figure")) == len(page.all("figcaption")) == 2
    assert "](figures/a%20b.png)" in (folder / "report.md").read_text(encoding="utf-8")


def test_contents_lead_to_every_section(page):
    anchors = [attributes["href"] for attributes in page.all("a")]
    assert anchors == ["#what-was-run", "#table-5-loss--accuracy", "#what-was-run-1"]
    assert [f"#{attributes['id']}" for attributes in page.all("h2")] == anchors


def test_language_and_title(folder, page):
    assert page.all("html") == [{"lang": "en"}]
    assert "<title>Tiny &amp; quick: synthetic &lt;clips&gt;</title>" in (folder / "report.html").read_text("utf-8")
    assert len(page.all("h1")) == 1


def test_short_cells_stay_on_one_line(page):
    assert [attributes.get("class") for attributes in page.all("td")] == [
        "short",
        "short",
        None,
        "short",
        "short",
        "short",
    ]


@pytest.mark.parametrize("path", ["figures/none.png", "../outside.png"])
def test_a_picture_that_is_missing_or_elsewhere_is_named_and_nothing_is_written(folder, path):
    (folder.parent / "outside.png").write_bytes((folder / "figures" / "wide.png").read_bytes())
    sentence = f"{path}: expected a picture below {folder}, found none: draw it there before the report"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        write_report(folder, TITLE, [Section("One", [Picture(Path(path), "Curves")])])
    assert not list(folder.glob("report.*"))
