"""Map of embeddings in two dimensions: a picture, and one HTML page that plays a clip on click."""

import base64
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import soundfile
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from .. import audio
from ..files import OUTPUT_REMEDY, atomic_file, check_new
from ..reporting.plots import GREY, SERIES, blank_figure, escape_dollars, wrap_text
from ..validation import UserError, printable
from .folder import EMBEDDING, EmbeddingFolder
from .review import label_rows

MOST_POINTS = 20_000  # of a picture; t-SNE of more takes hours
MOST_PLAYED = 2_000  # of a page, which holds their sound
LONGEST_TEXT = 50  # letters of a line in the legend of a picture
PLAYED_SECONDS = 5.0
RATE = 22_050  # Hz, of the sound in a page
COMPRESSION = 0.8  # of libsndfile's MP3, from 0, the best, to 1, the smallest
FEWEST_POINTS = 4
COMPONENTS = 50  # principal components that t-SNE is given, as van der Maaten and Hinton (JMLR 2008) do
SEED = 0


@dataclass(frozen=True)
class MapPoint:
    """A clip on a map.

    Args:
        file: of the clip, or of the recording that it is a part of.
        label: that colours it.
        start: of the part in seconds; None for a whole clip.
        end: of the part in seconds; None for a whole clip.
    """

    file: str
    label: str
    start: float | None = None
    end: float | None = None

    @property
    def name(self) -> str:
        """File, and times of a part, for readers."""
        times = "" if self.start is None else f" {self.start:.2f} to {self.end:.2f} s"
        return printable(self.file) + times


def sample_rows(count: int, most: int) -> np.ndarray:
    """Return the sorted indices of at most so many rows, drawn at random with a constant seed, `(rows,)`."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(SEED).choice(count, most, replace=False))


def project(embeddings: np.ndarray) -> np.ndarray:
    """Return places of embeddings `(clips, values)` on a map, `(clips, 2)`, from 0 to 1, as similar clips are near.

    t-SNE (van der Maaten and Hinton, JMLR 2008) of the cosine similarity, from the principal components on, so that
    the same embeddings give the same map. Distances between groups mean little.

    Raises:
        UserError: for fewer than 4 clips.
    """
    if len(embeddings) < FEWEST_POINTS:
        raise UserError(
            f"expected at least {FEWEST_POINTS} clips for a map, found {len(embeddings)}; embed more, or label more."
        )
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    directions = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    components = min(COMPONENTS, *directions.shape)
    with np.errstate(invalid="ignore"):  # of the variance of equal embeddings, which is not used
        reduced = PCA(components, svd_solver="full", random_state=SEED).fit_transform(directions)
    perplexity = min(30.0, (len(reduced) - 1) / 3)
    # what init="pca" is, but for a division by zero where all embeddings are equal
    start = np.zeros((len(reduced), 2), np.float32)
    start[:, :components] = reduced[:, :2] * (1e-4 / max(reduced[:, 0].std(), 1e-12))
    places = TSNE(perplexity=perplexity, init=start, random_state=SEED).fit_transform(reduced)
    low, high = places.min(axis=0), places.max(axis=0)
    return np.clip((places - (low + high) / 2) / max(*(high - low), 1e-12) + 0.5, 0, 1)


def colours_of(points: Sequence[MapPoint]) -> dict[str, str]:
    """Return the colour of each label, the most frequent first; from the ninth on they are grey."""
    labels = [label for label, _ in Counter(sorted(point.label for point in points)).most_common()]
    return {label: SERIES[place] if place < len(SERIES) else GREY for place, label in enumerate(labels)}


def legend_of(points: Sequence[MapPoint]) -> list[tuple[str, str, set[str]]]:
    """Return text, colour and labels of each entry of the legend, as `colours_of` sorts them; grey ones share one."""
    colours = colours_of(points)
    entries = [(printable(label), colour, {label}) for label, colour in colours.items()]
    if len(others := entries[len(SERIES) :]) > 1:
        return [*entries[: len(SERIES)], (f"{len(others)} others", GREY, set(list(colours)[len(SERIES) :]))]
    return entries


def write_map_picture(file: Path, points: Sequence[MapPoint], places: np.ndarray, title: str) -> None:
    """Draw a map as a picture.

    Args:
        file: such as `map.png`.
        points: clips, at least one.
        places: of the clips, `(clips, 2)`, as from `project`.
        title: above the picture.
    """
    wide, high = np.maximum(np.ptp(places, axis=0), 0.1)
    figure = blank_figure(8, 1.2 + 8 * min(high / wide, 1.5))
    axes = figure.add_subplot()
    size = float(np.clip(12_000 / len(points), 6, 60))
    texts, handles = [], []
    for text, colour, labels in legend_of(points):
        own = np.array([point.label in labels for point in points])
        handles.append(axes.scatter(*places[own].T, s=size, color=colour, alpha=0.7, linewidths=0))
        texts.append(wrap_text(f"{text} ({own.sum()})", LONGEST_TEXT))
    axes.set(xticks=(), yticks=(), aspect="equal")
    axes.set_title(escape_dollars(title), fontsize="medium")
    columns = min(4, 2 * LONGEST_TEXT // (6 + max(map(len, texts))))
    legend = figure.legend(
        handles, [str(number) for number in range(len(texts))], loc="outside lower center", ncols=max(1, columns),
        frameon=False, fontsize="small",
    )  # fmt: skip
    for handle, entry, text in zip(legend.legend_handles, legend.get_texts(), texts, strict=True):
        handle.set_sizes([40])
        entry.set_text(text)  # not as a label of the legend, which leaves out those that begin with "_"
    figure.savefig(file)


def write_map_page(file: Path, points: Sequence[MapPoint], places: np.ndarray, title: str, caption: str) -> int:
    """Write a map as one HTML page, which opens from the disk and plays a clip on click.

    Args:
        file: such as `map.html`.
        points: at most `MOST_PLAYED` clips; the page holds the first 5 s of each whose file is there.
        places: of the clips, `(clips, 2)`, as from `project`.
        title: of the page.
        caption: below the title.

    Returns:
        The number of clips that the page can play.

    Raises:
        BadAudio: for a clip that does not decode any more.
    """
    labels = list(colours_of(points))
    # not `Path.is_file`, which raises for a name that is too long, as names of rows may be
    sounds = [_encode(point) if os.path.isfile(point.file) else None for point in points]
    data = {
        "labels": [printable(label) for label in labels],
        "groups": [[text, colour] for text, colour, _ in legend_of(points)],
        "points": [
            [labels.index(point.label), round(float(x), 4), round(float(y), 4), point.name, sound]
            for point, (x, y), sound in zip(points, places, sounds, strict=True)
        ],
    }
    template = files(__package__).joinpath("map.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    # "<" could end the element that holds the data
    text = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    page = environment.from_string(template).render(title=title, caption=caption, data=Markup(text))
    file.write_text(page, encoding="utf-8")
    return sum(sound is not None for sound in sounds)


def _encode(point: MapPoint) -> str:
    """Return the beginning of a clip as MP3 in Base64."""
    start = point.start or 0.0
    end = audio.inspect(point.file).duration if point.end is None else point.end
    part = f"{point.file}#t={start:.6f},{min(end, start + PLAYED_SECONDS):.6f}"
    samples, _ = audio.load(part, RATE, Path(point.file).name)
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(samples, -1, 1), RATE, format="MP3", compression_level=COMPRESSION)
    return base64.b64encode(stream.getvalue()).decode()


def run_map(path: Path, *, outputs: Sequence[Path], labels: Path | None = None) -> int:
    """Draw a folder of embeddings as pictures and pages, and return the exit code."""
    for file in outputs:
        if file.suffix not in (".png", ".html"):
            raise UserError(f"expected --output with the suffix .png or .html, found {file.name}; give one of them.")
        check_new(file)
    folder = EmbeddingFolder.open(path)
    numbers = [number for part, _ in folder.tables() for number in part.tolist()]
    named: dict[int, str] = {}
    if labels is not None:
        named = {number: row.label for number, row in label_rows(folder, labels).items() if row.label is not None}
        if len(named) < len(numbers):
            print(f"{len(numbers) - len(named)} rows have no label in {labels}: they are not on the map.")
        numbers = list(named)
    count = len(numbers)
    most = MOST_PLAYED if any(file.suffix == ".html" for file in outputs) else MOST_POINTS
    numbers = [numbers[index] for index in sample_rows(count, most)]
    rows = folder.rows(numbers, "file", "label", "start", "end", EMBEDDING)
    points = [
        MapPoint(row["file"], named.get(number, row["label"]) or "no label", row["start"], row["end"])
        for number, row in zip(numbers, rows, strict=True)
    ]
    places = project(np.array([row[EMBEDDING] for row in rows]))
    title = printable(f"{len(points)} of {count} clips of {path.resolve().name}")
    caption = (
        f"Embeddings of {printable(Path(folder.name).name)}: the nearer, the more similar; distances between groups "
        "mean little."
    )
    for file in outputs:
        silent = 0
        with atomic_file(file, OUTPUT_REMEDY) as part:
            if file.suffix == ".png":
                write_map_picture(part, points, places, title)
            else:
                silent = len(points) - write_map_page(part, points, places, title, caption)
        print(file)
        if silent:
            print(f"{silent} of {len(points)} clips do not play, since their files are not there.")
    return 0
