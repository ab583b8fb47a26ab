"""Map of embeddings in two dimensions: a picture, and one HTML page that plays a clip on click."""

import base64
import io
import json
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
from ..reporting.plots import GREY, SERIES, blank_figure, escape_dollars
from ..validation import UserError, printable
from .folder import EMBEDDING, EmbeddingFolder
from .review import label_rows

MOST_POINTS = 20_000  # of a picture; t-SNE of more takes hours
MOST_PLAYED = 2_000  # of a page, which holds their sound
PLAYED_SECONDS = 5.0
RATE = 22_050  # Hz, of the sound in a page
COMPRESSION = 0.8  # of libsndfile's MP3: about 3.3 kB a second
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
        raise UserError(f"expected at least {FEWEST_POINTS} clips for a map, found {len(embeddings)}; embed more.")
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    directions = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    components = min(COMPONENTS, *directions.shape)
    reduced = PCA(components, svd_solver="full", random_state=SEED).fit_transform(directions)
    perplexity = min(30.0, (len(reduced) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=SEED).fit_transform(reduced)
    low, size = places.min(axis=0), np.ptp(places, axis=0).max()
    # the smaller side is in the middle
    return (places - low + (size - np.ptp(places, axis=0)) / 2) / max(size, 1e-12)


def colours_of(points: Sequence[MapPoint]) -> dict[str, str]:
    """Return the colour of each label, the most frequent first; from the ninth on they are grey."""
    labels = [label for label, _ in Counter(sorted(point.label for point in points)).most_common()]
    return {label: SERIES[place] if place < len(SERIES) else GREY for place, label in enumerate(labels)}


def write_map_picture(file: Path, points: Sequence[MapPoint], places: np.ndarray, title: str) -> None:
    """Draw a map as a picture.

    Args:
        file: such as `map.png`.
        points: clips.
        places: of the clips, `(clips, 2)`, as from `project`.
        title: above the picture.
    """
    wide, high = np.maximum(np.ptp(places, axis=0), 0.1)
    figure = blank_figure(8, 1.2 + 8 * min(high / wide, 1.5))
    axes = figure.add_subplot()
    size = float(np.clip(12_000 / len(points), 6, 60))
    for label, colour in colours_of(points).items():
        own = np.array([point.label == label for point in points])
        text = f"{escape_dollars(printable(label))} ({own.sum()})"
        axes.scatter(*places[own].T, s=size, color=colour, alpha=0.7, linewidths=0, label=text)
    axes.set(xticks=(), yticks=(), aspect="equal")
    axes.set_title(escape_dollars(title), fontsize="medium")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize="small", markerscale=2)
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
    colours = colours_of(points)
    labels = list(colours)
    sounds = [_encode(point) if Path(point.file).is_file() else None for point in points]
    data = {
        "labels": [printable(label) for label in labels],
        "colours": list(colours.values()),
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
    samples, _ = audio.load(point.file, RATE)
    first = 0 if point.start is None else round(point.start * RATE)
    last = len(samples) if point.end is None else round(point.end * RATE)
    stream = io.BytesIO()
    part = samples[first : min(last, first + round(PLAYED_SECONDS * RATE))]
    soundfile.write(stream, np.clip(part, -1, 1), RATE, format="MP3", compression_level=COMPRESSION)
    return base64.b64encode(stream.getvalue()).decode()


def run_map(path: Path, *, outputs: Sequence[Path], labels: Path | None = None) -> int:
    """Draw a folder of embeddings as pictures and pages, and return the exit code."""
    for file in outputs:
        if file.suffix not in (".png", ".html"):
            raise UserError(f"expected --output with the suffix .png or .html, found {file.name}; give one of them.")
        check_new(file)
    folder = EmbeddingFolder.open(path)
    if labels is None:
        parts = folder.tables("file", "label", "start", "end")
        points = {
            number: MapPoint(**row)
            for numbers, part in parts
            for number, row in zip(numbers.tolist(), part.to_pylist(), strict=True)
        }
    else:
        points = {
            number: MapPoint(row.file, row.label, row.start, row.end)
            for number, row in label_rows(folder, labels).items()
            if row.label is not None
        }
    most = MOST_PLAYED if any(file.suffix == ".html" for file in outputs) else MOST_POINTS
    numbers = [list(points)[index] for index in sample_rows(len(points), most)]
    shown = [points[number] for number in numbers]
    places = project(np.array([row[EMBEDDING] for row in folder.rows(numbers, EMBEDDING)]))
    title = f"{len(shown)} of {len(points)} clips of {path.name}"
    caption = (
        f"Embeddings of {Path(folder.name).name}: the nearer, the more similar; distances between groups mean little."
    )
    for file in outputs:
        with atomic_file(file, OUTPUT_REMEDY) as part:
            if file.suffix == ".png":
                write_map_picture(part, shown, places, title)
            else:
                write_map_page(part, shown, places, title, caption)
        print(file)
    return 0
