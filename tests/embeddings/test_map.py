"""Maps of embeddings: their places, a picture, and a page that plays clips, in a browser from the disk."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from browser import DRIVER, chromium, resize
from PIL import Image
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from hf_vivae.embeddings.folder import EMBEDDING
from hf_vivae.embeddings.index import write_index
from hf_vivae.embeddings.map import (
    MapPoint,
    colours_of,
    legend_of,
    project,
    run_map,
    sample_rows,
    write_map_page,
    write_map_picture,
)
from hf_vivae.reporting.plots import GREY, SERIES
from hf_vivae.validation import UserError

WIDTH = 8
RATE = 16_000
HOSTILE = "</script><img src=x onerror=\"document.title='b'\">\u2028"
GUARD = 60  # seconds that a busy machine may take
PLAYING = "const player = document.querySelector('audio'); return player.currentTime > 0 && !player.paused"
SENTENCE = "the nearer, the more similar"


def clusters(count: int) -> np.ndarray:
    """Embeddings of two groups of so many clips, one after the other."""
    noise = 0.05 * np.random.default_rng(0).standard_normal((2 * count, WIDTH))
    return np.repeat(np.eye(2, WIDTH), count, axis=0) + noise


def write_sound(file: Path, seconds: float, tone_until: float) -> Path:
    """Write a tone that ends, and silence to the end of the file."""
    times = np.arange(round(seconds * RATE)) / RATE
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, 0.5 * np.sin(2 * np.pi * 440 * times) * (times < tone_until), RATE)
    return file


class TestPlaces:
    def test_groups_stay_apart_and_the_same_embeddings_have_the_same_map(self):
        embeddings = clusters(15)
        places = project(embeddings)
        assert places.shape == (30, 2)
        assert (places.min(), places.max()) == (0, 1)
        middles = places.reshape(2, 15, 2).mean(axis=1)
        own, other = (np.linalg.norm(places.reshape(2, 15, 2) - m[:, None], axis=2) for m in (middles, middles[::-1]))
        assert (own < other).all()
        assert np.array_equal(project(embeddings), places)
        np.testing.assert_allclose(places.min(axis=0) + places.max(axis=0), 1, atol=1e-6)  # in the middle

    def test_equal_embeddings_are_one_place(self):
        np.testing.assert_allclose(project(np.ones((6, WIDTH))), 0.5)
        assert np.isfinite(project(np.zeros((4, 1)))).all()

    def test_fewer_than_four_are_refused(self):
        assert project(clusters(2)).shape == (4, 2)
        with pytest.raises(UserError, match=r"^expected at least 4 clips for a map, found 3; embed more"):
            project(clusters(2)[:3])

    def test_a_sample_is_sorted_without_repetition_and_the_same_each_time(self):
        assert sample_rows(5, 5).tolist() == list(range(5))
        sample = sample_rows(1000, 50)
        assert sorted(set(sample.tolist())) == sample.tolist()
        assert len(sample) == 50
        assert sample.max() > 500
        assert np.array_equal(sample, sample_rows(1000, 50))


class TestLegend:
    def test_frequent_labels_have_colours_and_equally_frequent_ones_are_sorted(self):
        points = [MapPoint("x.wav", label) for label in "bbbaaccdefghijk"]
        colours = colours_of(points)
        assert list(colours)[:5] == ["b", "a", "c", "d", "e"]
        assert list(colours.values()) == [*SERIES, *[GREY] * 3]
        assert legend_of(points)[0] == ("b", SERIES[0], {"b"})
        assert legend_of(points)[8:] == [("3 others", GREY, {"i", "j", "k"})]
        assert colours_of(points[::-1]) == colours

    def test_a_single_grey_label_keeps_its_name(self):
        assert legend_of([MapPoint("x.wav", label) for label in "abcdefghi"])[8] == ("i", GREY, {"i"})


@pytest.mark.parametrize("labels", [["_a$b$", HOSTILE], ["a"], [f"{'long ' * 20}{number}" for number in range(40)]])
def test_a_picture_has_its_points_and_its_legend(labels, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args: (drawn.append(self), save(self, *args)))
    write_map_picture(
        tmp_path / "map.png",
        [MapPoint("x.wav", label) for label in labels],
        np.random.default_rng(0).uniform(size=(len(labels), 2)),
        "title $1$ of",
    )
    (figure,) = drawn
    assert sum(len(dots.get_offsets()) for dots in figure.axes[0].collections) == len(labels)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == min(9, len(labels))
    assert texts[-1].endswith("(32)" if len(labels) == 40 else "(1)")
    assert labels[0] != "_a$b$" or r"_a\$b\$ (1)" in texts
    box = figure.axes[0].get_window_extent()
    assert min(box.width, box.height) > 300  # pixels: a long legend leaves room for the map
    with Image.open(tmp_path / "map.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(10**6)}
    assert len(colours) > 2


def content_of(page: Path) -> dict:
    return json.loads(page.read_text("utf-8").partition('type="application/json">')[2].partition("</script>")[0])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of six clips: two whole ones, two parts of a recording, one that is gone, and one of a table."""
    folder = tmp_path_factory.mktemp("sounds")
    short = write_sound(folder / "a<b>&'\u2028.wav", 1.5, 1.5)
    long = write_sound(folder / "#t=1,2.wav", 12, 1)
    points = [
        MapPoint(str(short), HOSTILE),
        MapPoint(str(long), "b"),
        MapPoint(str(long), "b", 0.5, 2.0),
        MapPoint(str(long), "b", 11.0, 12.0),
        MapPoint(str(folder / "gone.wav"), HOSTILE),
        MapPoint("row " + 300 * "x", "c"),
    ]
    places = np.array([[0, 0.5], [1, 0.5], [0.5, 0.2], [0.5, 0.8], [0.1, 0.3], [0.9, 0.7]])
    file = folder / "map.html"
    assert write_map_page(file, points, places, "</title><b>6 clips", f"{SENTENCE} <i>") == 4
    return file


def test_a_page_has_names_of_any_text_and_cannot_request_anything(written):
    text = written.read_text("utf-8")
    assert text.count("</script>") == 2
    assert "<img" not in text
    assert "</title><b>" not in text
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy
    content = content_of(written)
    assert content["labels"] == ["b", HOSTILE.replace("\u2028", r"\u2028"), "c"]
    assert content["groups"] == [[label, colour] for label, colour in zip(content["labels"], SERIES, strict=False)]
    assert content["points"][2][3].endswith("#t=1,2.wav 0.50 to 2.00 s")
    assert r"a<b>&'\u2028.wav" in content["points"][0][3]


def test_a_page_plays_the_first_seconds_of_clips_and_of_parts_that_are_there(written):
    sounds = [sound and base64.b64decode(sound, validate=True) for *_, sound in content_of(written)["points"]]
    assert sounds[4:] == [None, None]
    lengths, loud = [], []
    for sound in sounds[:4]:
        samples, rate = soundfile.read(io.BytesIO(sound))
        lengths.append(round(len(samples) / rate, 3))
        loud.append((np.abs(samples) > 0.25).nonzero()[0].max(initial=0) / rate)
    assert lengths == [1.5, 5, 1.5, 1]
    assert loud == pytest.approx([1.5, 1, 0.5, 0], abs=0.01)


def test_a_clip_that_has_changed_into_another_file_is_a_sentence(tmp_path):
    (tmp_path / "x.wav").write_text("text")
    with pytest.raises(UserError, match=r"^x\.wav: expected WAV, FLAC, OGG, MP3"):
        write_map_page(tmp_path / "map.html", [MapPoint(str(tmp_path / "x.wav"), "a")], np.zeros((1, 2)), "", "")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `embed` writes it: ten clips, one of which is there, in two parts, each with a failed clip."""
    folder = tmp_path_factory.mktemp("archive") / "emb"
    folder.mkdir()
    texts = [(name, pa.string()) for name in ("file", "label", "error")]
    numbers = [(name, pa.float64()) for name in ("start", "end", "probability")]
    schema = pa.schema([*texts, *numbers, (EMBEDDING, pa.list_(pa.float32(), WIDTH))])
    files = [f"/nowhere/{number}.wav" for number in range(9)] + [str(write_sound(folder.parent / "9.wav", 1, 1))]
    labels = [None, *"aaaabbbbb"]
    rows = [
        {"file": file, "label": label, EMBEDDING: vector}
        for file, label, vector in zip(files, labels, clusters(5).astype(np.float32), strict=True)
    ]
    for part in range(2):
        failed = {"file": "broken.wav", "error": "expected sound, found none."}
        table = pa.Table.from_pylist([failed, *rows[5 * part : 5 * part + 5]], schema)
        pq.write_table(table, folder / f"part-{part:06}.parquet")
    write_index(folder, SimpleNamespace(identity="a", name="me/probe", revision=None, dimension=WIDTH, bf16=False))
    return folder


class TestCommand:
    def test_a_picture_and_a_page_of_the_labels_of_the_checkpoint(self, embedded, tmp_path, capsys, monkeypatch):
        picture, page = tmp_path / "new" / "map.png", tmp_path / "map.html"
        assert run_map(embedded, outputs=[picture, page]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines == [str(picture), str(page), "9 of 10 clips do not play, since their files are not there."]
        assert Image.open(picture).format == "PNG"
        content = content_of(page)
        assert content["labels"] == ["b", "a", "no label"]
        assert [content["labels"][label] for label, *_ in content["points"]] == ["no label", *"aaaabbbbb"]
        assert [bool(sound) for *_, sound in content["points"]] == [False] * 9 + [True]
        assert "<h1>10 of 10 clips of emb</h1>" in page.read_text("utf-8")
        monkeypatch.chdir(embedded)
        monkeypatch.setattr("hf_vivae.embeddings.map.MOST_PLAYED", 6)
        run_map(Path("."), outputs=[tmp_path / "six.html"])
        assert "<h1>6 of 10 clips of emb</h1>" in (tmp_path / "six.html").read_text("utf-8")
        assert len(content_of(tmp_path / "six.html")["points"]) == 6

    def test_labels_of_a_table_and_those_that_it_lacks(self, embedded, tmp_path, capsys):
        table, page = tmp_path / "labels.csv", tmp_path / "map.html"
        table.write_text("file,label\n" + "".join(f"{number}.wav,{'xy'[number % 2]}\n" for number in range(2, 10)))
        run_map(embedded, outputs=[page], labels=table)
        assert f"2 rows have no label in {table}: they are not on the map." in capsys.readouterr().out
        content = content_of(page)
        assert [content["labels"][label] for label, *_ in content["points"]] == [*"xyxyxyxy"]
        table.write_text("file,label\n1.wav,x\n2.wav,y\n")
        with pytest.raises(UserError, match=r"^expected at least 4 clips for a map, found 2; .* or label more\.$"):
            run_map(embedded, outputs=[tmp_path / "new.html"], labels=table)

    def test_outputs_and_folders_that_do_not_fit_are_refused(self, embedded, tmp_path):
        page = tmp_path / "map.html"
        with pytest.raises(UserError, match=r"^expected --output with the suffix \.png or \.html, found map\.pdf"):
            run_map(embedded, outputs=[page, tmp_path / "map.pdf"])
        with pytest.raises(UserError, match=r"^expected a folder that hf-vivae embed has finished, found .* without"):
            run_map(tmp_path, outputs=[page])
        page.write_text("")
        with pytest.raises(UserError, match=r"^expected a new file as --output, found .*map\.html"):
            run_map(embedded, outputs=[page])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.browser
@pytest.mark.skipif(DRIVER is None, reason="no chromedriver; apt-get install chromium chromium-driver")
class TestInABrowser:
    @pytest.fixture
    def page(self, browser: Chrome, written: Path) -> Chrome:
        """The page as it opens from the disk."""
        resize(browser, 1280, 900)
        browser.get(written.as_uri())
        return browser

    def click(self, page: Chrome, index: int) -> None:
        canvas = page.find_element(By.ID, "plot")
        x, y = page.execute_script("return place(points[arguments[0]])", index)
        middle = [page.execute_script(f"return canvas.client{side} / 2") for side in ("Width", "Height")]
        ActionChains(page, 0).move_to_element_with_offset(
            canvas, round(x - middle[0]), round(y - middle[1])
        ).click().perform()

    def panel(self, page: Chrome) -> str:
        return page.find_element(By.ID, "clip").text

    def test_a_click_plays_and_nothing_is_requested(self, page):
        assert page.title == "</title><b>6 clips"
        assert SENTENCE in page.find_element(By.TAG_NAME, "p").text
        self.click(page, 0)
        assert self.panel(page).startswith(f"{HOSTILE[:-1]}\\u2028: ")
        WebDriverWait(page, GUARD, 0.02).until(lambda page: page.execute_script(PLAYING))
        self.click(page, 3)
        assert self.panel(page).startswith("b: ")
        assert "11.00 to 12.00 s" in self.panel(page)
        self.click(page, 4)
        assert "(the file was not there when this page was made)" in self.panel(page)
        assert page.find_elements(By.TAG_NAME, "audio") == []
        names = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [name for name in names if not name.startswith("data:")] == []
        assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
        assert page.title == "</title><b>6 clips"

    def test_the_legend_hides_labels(self, page):
        buttons = page.find_elements(By.CSS_SELECTOR, "#legend button")
        assert [button.text.rpartition(" ")[2] for button in buttons] == ["(3)", "(2)", "(1)"]
        pixels = "return context.getImageData(...place(points[1]), 1, 1).data[3]"  # opacity; the scale is 1
        assert page.execute_script(pixels) > 0
        buttons[0].click()
        assert buttons[0].get_attribute("aria-pressed") == "false"
        assert page.execute_script(pixels) == 0
        before = self.panel(page)
        self.click(page, 1)
        assert self.panel(page) == before
        buttons[0].click()
        self.click(page, 1)
        assert self.panel(page).startswith("b: ")

    def test_arrows_go_from_clip_to_clip_and_keys_zoom(self, page):
        canvas = page.find_element(By.ID, "plot")
        self.click(page, 0)
        for key, index in ((Keys.ARROW_UP, 3), (Keys.ARROW_RIGHT, 5), (Keys.ARROW_LEFT, 3)):
            canvas.send_keys(key)
            assert page.execute_script("return chosen") == index
        canvas.send_keys(*"+++++++")
        assert page.execute_script("return view.zoom") > 10
        canvas.send_keys(Keys.ARROW_DOWN)  # to a clip that was out of view
        assert page.execute_script("return chosen") == 2
        x, y = page.execute_script("return place(points[chosen])")
        size = canvas.size
        assert 0 < x < size["width"]
        assert 0 < y < size["height"]
        canvas.send_keys(Keys.ENTER)
        WebDriverWait(page, GUARD, 0.02).until(lambda page: page.execute_script(PLAYING))
        canvas.send_keys("0")
        assert page.execute_script("return view") == {"x": 0.5, "y": 0.5, "zoom": 1}

    def test_the_wheel_keeps_the_point_below_it_and_the_map_cannot_be_lost(self, page):
        before = page.execute_script("return place(points[3])")
        page.execute_script(
            "const [x, y] = place(points[3]), {left, top} = canvas.getBoundingClientRect();"
            "const position = {clientX: left + x + 1, clientY: top + y + 1};"
            "canvas.dispatchEvent(new WheelEvent('wheel', {deltaY: -400, ...position}))"
        )
        assert page.execute_script("return view.zoom") == pytest.approx(np.e)
        assert page.execute_script("return place(points[3])") == pytest.approx(before, abs=2)
        for _ in range(3):
            ActionChains(page, 0).drag_and_drop_by_offset(page.find_element(By.ID, "plot"), 500, 0).perform()
        assert page.execute_script("return view.x") == 0

    def test_a_phone_shows_it_without_scrolling_sideways(self, page, written):
        resize(page, 390, 844)
        page.get(written.as_uri())
        self.click(page, 1)
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
        places = page.execute_script(
            "const shown = [...document.querySelectorAll('h1, p, button, canvas, audio, #clip')];"
            "return shown.map(element => element.getBoundingClientRect().right)"
        )
        assert max(places) <= 390

    @pytest.mark.parametrize("count", [0, 1])
    def test_maps_of_hardly_any_clips_are_drawn(self, browser, count, tmp_path):
        points, places = [MapPoint("gone.wav", "a")] * count, np.full((count, 2), 0.5)
        write_map_page(tmp_path / "map.html", points, places, "few", "")
        browser.get((tmp_path / "map.html").as_uri())
        assert browser.execute_script("return points.map(place).flat().every(Number.isFinite)")
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
