"""Reports of text, tables and pictures: `report.md`, and `report.html` as a single file.

The HTML is rendered from the Markdown (CommonMark with tables), so both have the same content.
"""

import base64
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from ..validation import UserError
from .tables import Table, escape_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


STYLE = Path(__file__).with_name("report.css")
SHORT_CELL = 24  # characters that are not broken into lines
WIDE_PICTURE = 700  # CSS pixels; a narrow screen scrolls such a picture, since it could not be read if it were shrunk
SYNTHETIC = (
    "Synthetic clips are generated from seeds by a voice model and express no emotion of a person. Their scores show "
    "that the code works and how its parts affect each other; they are no evidence about VIVAE or people."
)


@dataclass(frozen=True)
class Picture:
    """An image file.

    Args:
        path: relative to the report's folder, and below it.
        caption: plain text, which is also the alternative text of the picture.
    """

    path: Path
    caption: str


@dataclass(frozen=True)
class Code:
    """Preformatted text, such as commands."""

    text: str


@dataclass(frozen=True)
class Section:
    """Heading (plain text) and the blocks below it, in their order; a string is Markdown without HTML."""

    title: str
    blocks: Sequence[str | Table | Picture | Code]


def write_report(folder: Path, title: str, sections: Sequence[Section]) -> None:
    """Write `report.md` and `report.html`; neither is written where a picture is missing.

    Args:
        folder: of the report; pictures are below it.
        title: plain text, naming the corpus.
        sections: in their order.

    Raises:
        UserError: a picture does not exist below the folder.
    """
    text = to_markdown(title, sections)
    page = to_html(folder, title, text)
    (folder / "report.md").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(page, encoding="utf-8")


def save_picture(folder: Path, path: Path, figure: "Figure", caption: str) -> Picture:
    """Save a figure as PNG, and return it as a picture of the report.

    Args:
        folder: of the report.
        path: of the file, relative to the folder; its own folder is made.
        figure: to save.
        caption: see `Picture`.
    """
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / path)
    return Picture(path, caption)


def bullet_list(sentences: Sequence[str]) -> str:
    """Return sentences of plain text as a Markdown list."""
    return "\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences)


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return the report as Markdown, with a table of contents that links to GitHub's anchors of headings."""
    body = [f"# {escape_markdown(title)}"]
    for section in sections:
        body += [f"## {escape_markdown(section.title)}", *(_block(block) for block in section.blocks)]
    tokens = _parser().parse("\n\n".join(body))
    contents = [
        f"- [{inline.content}](#{opening.attrs['id']})"
        for opening, inline in itertools.pairwise(tokens)
        if opening.type == "heading_open" and opening.tag == "h2"
    ]
    return "\n\n".join([body[0], "\n".join(contents), *body[1:]]) + "\n"


def _block(block: str | Table | Picture | Code) -> str:
    if isinstance(block, str):
        return block.strip()
    if isinstance(block, Picture):
        caption = escape_markdown(block.caption)
        return f"![{caption}]({quote(block.path.as_posix())})\\\n*{caption}*"
    if isinstance(block, Code):
        longest = max((len(ticks) for ticks in re.findall("`+", block.text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{fence}\n{block.text.rstrip()}\n{fence}"
    return block.to_markdown().strip()


def to_html(folder: Path, title: str, text: str) -> str:
    """Return the HTML page of a Markdown text, without scripts and with its pictures embedded.

    Args:
        folder: that the text's pictures are relative to.
        title: of the browser's window.
        text: Markdown; HTML in it is shown as text.

    Raises:
        UserError: a picture does not exist below the folder.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n<main>\n{_parser().render(text, {'folder': folder})}</main>\n</body>\n</html>\n"
    )


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.core.ruler.push("anchors", _give_anchors)
    parser.core.ruler.push("captions", _mark_captions)
    parser.add_render_rule("image", _embed)
    parser.add_render_rule("table_open", lambda *_: '<div class="table">\n<table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table>\n</div>\n")
    return parser


def _give_anchors(state: StateCore) -> None:
    """Set GitHub's anchors: lower case, only word characters and hyphens, numbered where one is repeated."""
    seen: dict[str, int] = {}
    for heading, content in itertools.pairwise(state.tokens):
        if heading.type == "heading_open":
            anchor = re.sub(r"[^\w\- ]", "", _text(content).lower()).replace(" ", "-")
            seen[anchor] = seen.get(anchor, -1) + 1
            heading.attrs["id"] = f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor


def _text(token: Token) -> str:
    # not renderInlineAsText, which leaves out escaped characters before markdown-it-py 4.3
    return "".join(" " if child.type == "softbreak" else child.content for child in token.children)


def _mark_captions(state: StateCore) -> None:
    """Mark the paragraph before a table as its caption, and short cells.

    A paragraph that begins with an image becomes a figure, and the rest of it the figure's caption.
    """
    for index, token in enumerate(state.tokens):
        if token.type == "td_open" and len(state.tokens[index + 1].content) <= SHORT_CELL:
            token.attrs["class"] = "short"
        elif token.type == "table_open" and state.tokens[index - 1].type == "paragraph_close":
            state.tokens[index - 3].attrs["class"] = "caption"
        elif token.type == "paragraph_open" and state.tokens[index + 1].children[0].type == "image":
            inline = state.tokens[index + 1]
            token.tag = state.tokens[index + 2].tag = "figure"
            inline.children = [child for child in inline.children if child.type != "hardbreak"]
            for child in inline.children:
                child.tag = "figcaption" if child.tag == "em" else child.tag


def _embed(renderer: RendererHTML, tokens: Sequence[Token], index: int, options, environment: dict) -> str:
    """Return the image with its bytes, in the size that its file states in dots per inch."""
    from PIL import Image

    folder, source = environment["folder"].resolve(), unquote(tokens[index].attrs["src"])
    path = (folder / source).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise UserError(f"{source}: expected a picture below {folder}, found none: draw it there before the report")
    with Image.open(path) as image:
        dots = image.info.get("dpi", (96, 96))
        width, height = (round(pixels * 96 / density) for pixels, density in zip(image.size, dots, strict=True))
        kind = Image.MIME[image.format]
    data = base64.b64encode(path.read_bytes()).decode()
    alt = escape(_text(tokens[index]))
    wide = ' class="wide"' if width > WIDE_PICTURE else ""
    return f'<img{wide} src="data:{kind};base64,{data}" alt="{alt}" width="{width}" height="{height}">'
