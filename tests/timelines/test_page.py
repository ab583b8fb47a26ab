"""The page of a timeline in a browser, from the disk: it plays, shows, corrects and exports."""

import base64
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import DRIVER, chromium, resize
from praatio import textgrid
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from hf_vivae.inference.timeline import Recording, Timeline, find_segments
from hf_vivae.timelines.page import check_page_length, write_page
from hf_vivae.validation import UserError, printable

RATE, SECONDS = 16_000, 12
CLICKS = (2.0, 7.5)  # seconds
STEPS = "bbaaaa..cc.."  # the label of each second
LABELS = ["a", "</script><script>document.title='b'</script>", 'c "ü\u2028'] + [f"d{n}" for n in range(7)]
NAME = "a<b>&'\u2028</script>.wav"
GUARD = 60  # seconds that a busy machine may take
browser_test = [
    pytest.mark.browser,
    pytest.mark.skipif(DRIVER is None, reason="no chromedriver; apt-get install chromium chromium-driver"),
]


@pytest.fixture(scope="module")
def timeline(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    # the slash of the name is one that a file may have
    path = tmp_path_factory.mktemp("recording") / NAME.replace("/", "\u2215")
    samples = np.random.default_rng(0).normal(0, 0.001, SECONDS * RATE).astype(np.float32)
    samples[[round(click * RATE) for click in CLICKS]] = 0.9
    soundfile.write(path, samples, RATE)
    probabilities = np.full((SECONDS, len(LABELS)), 0.2 / (len(LABELS) - 1))
    for second, letter in enumerate(STEPS):
        probabilities[second, "abc".find(letter)] = 0.8
        if letter == ".":
            probabilities[second] = np.nan
    return Timeline(Recording.open(path), LABELS, 1.0, probabilities, np.zeros(SECONDS), "someone/<model>")


@pytest.fixture(scope="module")
def written(timeline: Timeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "x.html"
    write_page(file, timeline, find_segments(timeline))
    return file


def content_of(page: Path, kind: str) -> str:
    return page.read_text("utf-8").partition(f'id="{kind}">')[2].partition("</script>")[0]


def test_the_sound_of_the_page_is_as_long_and_in_time_with_the_recording(written):
    sound = base64.b64decode(content_of(written, "sound"), validate=True)
    samples, rate = soundfile.read(io.BytesIO(sound))
    assert len(samples) == SECONDS * rate
    assert len(sound) < 8500 * SECONDS
    loudest = np.argsort(-np.abs(samples))
    assert sorted({round(place / rate, 2) for place in loudest[:6]}) == list(CLICKS)


def test_pictures_show_the_spectrogram_in_time(written):
    from PIL import Image

    spectrogram = json.loads(content_of(written, "data"))["spectrogram"]
    assert len(spectrogram["pages"]) == 1
    for address in (spectrogram["overview"], *spectrogram["pages"]):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
        assert picture.shape == (160, SECONDS * 50)
        loud = picture.mean(axis=0) > 150
        assert sorted({round(column / 50, 1) for column in np.flatnonzero(loud)}) == list(CLICKS)


def test_the_likeliest_labels_have_colours_and_the_others_are_one(written, timeline):
    content = json.loads(content_of(written, "data"))
    assert len(content["series"]) == 8
    assert content["series"][-1][0] == "3 others"
    assert content["series"][0] == ["a", "#0072B2"]
    assert [row is None for row in content["probabilities"]] == [letter == "." for letter in STEPS]
    assert all(abs(sum(row) - 1000) <= 4 for row in content["probabilities"] if row)


def test_a_recording_that_is_too_long_is_a_sentence(timeline):
    with pytest.raises(UserError, match=r"expected up to 3 hours for a page, found 3\.5; write another format"):
        check_page_length(Recording(timeline.recording.path, 3.5 * 3600, RATE))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def page(browser: Chrome, written: Path, tmp_path: Path) -> Chrome:
    """The page as it opens from the disk."""
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    resize(browser, 1280, 900)
    browser.get(written.as_uri())
    return browser


def point(page: Chrome, seconds: float, strip: str = "labels") -> tuple:
    """A canvas and the offset of a moment from its middle, of the whole recording in view."""
    canvas = page.find_element(By.CSS_SELECTOR, "#view canvas")
    middle = {"labels": 50, "spectrogram": 160}[strip] - canvas.size["height"] / 2
    return canvas, round((seconds / SECONDS - 0.5) * canvas.size["width"]), round(middle)


def click(page: Chrome, seconds: float, strip: str = "labels") -> None:
    ActionChains(page, 0).move_to_element_with_offset(*point(page, seconds, strip)).click().perform()


def drag(page: Chrome, start: float, end: float) -> None:
    _, stop, _ = point(page, end)
    canvas, begin, middle = point(page, start)
    moves = ActionChains(page, 0).move_to_element_with_offset(canvas, begin, middle).click_and_hold()
    moves.move_by_offset((stop - begin) // 2, 0).move_by_offset(
        stop - begin - (stop - begin) // 2, 0
    ).release().perform()


def press(page: Chrome, *keys: str) -> None:
    page.switch_to.active_element.send_keys(*keys)


def set_field(page: Chrome, name: str, value: str) -> None:
    field = page.find_element(By.ID, name)
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, value, Keys.ENTER)


def position(page: Chrome) -> float:
    return page.execute_script("return document.getElementById('audio').currentTime")


def rows(page: Chrome) -> list[list[str]]:
    return page.execute_script(
        "const rows = [...document.querySelectorAll('tbody tr')];"
        "return rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )


def download(page: Chrome, button: str, folder: Path) -> Path:
    """The file that a button gives, once it is whole."""
    for file in files(folder):
        file.unlink()  # the browser would replace it
    page.find_element(By.ID, button).click()
    WebDriverWait(page, GUARD, 0.02).until(lambda _: files(folder))
    return files(folder)[0]


def files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.suffix in (".TextGrid", ".csv")]


def entries(file: Path, tier: str) -> list[tuple[float, float, str]]:
    return [tuple(entry) for entry in textgrid.openTextgrid(str(file), False).getTier(tier).entries]


class TestInABrowser:
    pytestmark = browser_test

    def test_names_of_any_text_are_shown_and_nothing_is_requested(self, page, timeline):
        assert page.find_element(By.TAG_NAME, "h1").text == printable(timeline.recording.path.name) == page.title
        assert "someone/<model>" in page.find_element(By.TAG_NAME, "header").text
        assert rows(page) == [
            ["0:00.00", "0:02.00", LABELS[1], "0.80"],
            ["0:02.00", "0:06.00", "a", "0.80"],
            ["0:08.00", "0:10.00", printable(LABELS[2]), "0.80"],
        ]
        WebDriverWait(page, GUARD).until(lambda page: page.execute_script("return audio.duration") == SECONDS)
        names = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [name for name in names if not name.startswith(("blob:", "data:"))] == []
        assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
        refused = page.execute_async_script(
            "addEventListener('securitypolicyviolation', event => arguments[0](event.effectiveDirective));"
            "fetch('http://127.0.0.1:9/').catch(() => 0)"
        )
        assert refused == "connect-src"

    def test_it_plays_and_pauses_with_the_keyboard(self, page):
        click(page, 3)
        assert position(page) == 2
        press(page, " ")
        WebDriverWait(page, GUARD, 0.02).until(lambda page: position(page) > 2.1)
        assert page.find_element(By.ID, "play").text == "Pause"
        press(page, " ")
        WebDriverWait(page, GUARD, 0.02).until(lambda page: page.find_element(By.ID, "play").text == "Play")
        press(page, Keys.END, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
        assert position(page) == pytest.approx(SECONDS - 2, abs=0.01)
        assert page.find_element(By.ID, "clock").text == "0:10.00"

    def test_segments_and_rows_seek_to_their_start(self, page):
        click(page, 9)
        assert position(page) == 8
        assert page.find_element(By.ID, "label").get_attribute("value") == printable(LABELS[2])
        page.find_element(By.CSS_SELECTOR, "tbody tr:nth-child(2) .end").click()
        assert position(page) == 2
        assert page.find_element(By.CSS_SELECTOR, "tr.now .end").text == "0:06.00"
        assert page.find_element(By.CSS_SELECTOR, "tr.selected .end").text == "0:06.00"
        click(page, 7, "spectrogram")
        assert position(page) == pytest.approx(7, abs=0.02)
        assert page.find_elements(By.CSS_SELECTOR, "tr.now") == []

    def test_corrections_are_exported(self, page, tmp_path):
        click(page, 1)
        drag(page, 2, 2.5)  # both segments that end here
        drag(page, 7.5, 6.5)  # a new one
        press(page, 'laugh "笑"', Keys.ENTER)
        click(page, 9)
        set_field(page, "end", "9.25")
        click(page, 9.1, "spectrogram")
        press(page, "[")
        click(page, 1)
        set_field(page, "start", "0.5")
        grid = download(page, "textgrid", tmp_path)
        labels = entries(grid, "labels")
        assert [label for _, _, label in labels] == [LABELS[1], "a", 'laugh "笑"', printable(LABELS[2])]
        times = [time for start, end, _ in labels for time in (start, end)]
        assert times == pytest.approx([0.5, 2.5, 2.5, 6, 6.5, 7.5, 9.1, 9.25], abs=0.02)
        assert times[1] == times[2]
        assert textgrid.openTextgrid(str(grid), True).maxTimestamp == SECONDS
        assert textgrid.openTextgrid(str(grid), True).tierNames == ("labels",)
        assert [score for *_, score in rows(page)] == ["edited"] * 4
        with download(page, "csv", tmp_path).open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        assert [row["label"] for row in table] == [label for _, _, label in labels]
        assert [float(row[name]) for row in table for name in ("start", "end")] == times

    def test_scores_stay_with_segments_that_are_unchanged_or_undone(self, page, tmp_path):
        click(page, 4)
        set_field(page, "label", "d3")
        click(page, 9)
        press(page, Keys.DELETE)
        assert [row[2:] for row in rows(page)] == [[LABELS[1], "0.80"], ["d3", "edited"]]
        press(page, Keys.CONTROL, "z")
        assert len(rows(page)) == 3
        grid = download(page, "textgrid", tmp_path)
        assert entries(grid, "scores") == [(0, 2, "0.8000"), (8, 10, "0.8000")]
        page.find_element(By.ID, "undo").click()
        assert [row[3] for row in rows(page)] == ["0.80"] * 3
        assert entries(download(page, "textgrid", tmp_path), "labels") == [
            (0, 2, LABELS[1]), (2, 6, "a"), (8, 10, printable(LABELS[2])),
        ]  # fmt: skip

    def test_ends_stay_within_the_recording_and_segments_without_overlap(self, page):
        click(page, 1)
        set_field(page, "start", "-3")
        set_field(page, "end", "99")  # the neighbour keeps its last 10 ms
        assert [row[:2] for row in rows(page)[:2]] == [["0:00.00", "0:05.99"], ["0:05.99", "0:06.00"]]
        set_field(page, "label", " ")
        assert page.find_element(By.ID, "label").get_attribute("value") == LABELS[1]
        page.find_element(By.ID, "add").click()
        assert len(rows(page)) == 3
        assert "within a segment" in page.find_element(By.ID, "status").text

    def test_it_warns_of_corrections_that_are_not_saved(self, page, tmp_path):
        leave = "return dispatchEvent(new Event('beforeunload', {cancelable: true}))"
        assert page.execute_script(leave)
        click(page, 1)
        press(page, Keys.DELETE)
        assert not page.execute_script(leave)
        download(page, "textgrid", tmp_path)
        assert page.execute_script(leave)

    def test_the_view_zooms_and_follows_the_sound(self, page):
        press(page, *"+++++")
        assert page.execute_script("return span") == 2
        page.execute_script("seek(1.5)")
        press(page, " ")
        WebDriverWait(page, GUARD, 0.02).until(lambda page: page.execute_script("return start") > 0.5)
        press(page, " ")
        page.find_element(By.ID, "whole").click()
        assert page.execute_script("return [start, span]") == [0, SECONDS]

    def test_a_phone_shows_it_without_scrolling_sideways(self, page, written):
        resize(page, 390, 844)
        page.get(written.as_uri())
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
        places = page.execute_script(
            "const shown = [...document.querySelectorAll('button, input, canvas, table')];"
            "return shown.map(element => element.getBoundingClientRect().right)"
        )
        assert max(places) <= 390
        unnamed = "return [...document.querySelectorAll('button')].filter(e => !e.innerText && !e.ariaLabel).length"
        assert page.execute_script(unnamed) == 0

    def test_a_finger_moves_an_end(self, page):
        resize(page, 390, 844)
        box = page.find_element(By.CSS_SELECTOR, "#view canvas").rect
        for kind, seconds in (("touchStart", 6), ("touchMove", 6.5), ("touchMove", 7), ("touchEnd", None)):
            place = {"x": box["x"] + box["width"] * (seconds or 0) / SECONDS, "y": box["y"] + 50}
            points = [] if seconds is None else [place]
            page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        WebDriverWait(page, GUARD, 0.02).until(lambda page: rows(page)[1][3] == "edited")
        assert page.execute_script("return segments[1].end") == pytest.approx(7, abs=0.06)

    def test_a_short_recording_without_segments_can_be_labelled(self, browser, tmp_path):
        soundfile.write(tmp_path / "x.wav", np.zeros(RATE // 32), RATE)
        recording = Recording.open(tmp_path / "x.wav")
        write_page(tmp_path / "x.html", Timeline(recording, ["a"], 0.25, np.full((1, 1), np.nan), np.zeros(1)), [])
        browser.get_log("browser")  # that of other tests
        browser.get((tmp_path / "x.html").as_uri())
        assert rows(browser) == []
        browser.find_element(By.ID, "add").click()
        assert rows(browser) == [["0:00.00", "0:00.03", "a", "edited"]]
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
