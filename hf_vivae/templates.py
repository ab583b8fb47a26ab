"""The templates of cards, in which a field that nobody gives is an error."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def open_templates(cards: Path) -> Environment:
    """The templates in the folder `model_cards/`; lines that hold nothing but a statement leave no line."""
    # of Markdown, in which nothing is escaped as in HTML
    return Environment(  # nosec B701
        loader=FileSystemLoader(cards), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
