"""The page of a timeline in a browser, from the disk: it plays, shows, corrects and exports."""

import base64
import io
import json
import time
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
from selenium.webdriver.support.ui import Select, WebDriverWait

from hf_vivae.inference.timeline import Recording, Timeline, find_segments
from hf_vivae.timelines.page import check_page_length, write_page
from hf_vivae.validation import UserError

RATE, SECONDS = 16_000, 12
CLICKS = (2.0, 7.5)  # seconds
STEPS = "bb..aaaa..cc"  # the label of each second
LABELS = ["a", "</script><script>document.title='b'</script>", 'c "ü\u2028'] + [f"d{n}" for n in range(7)]
NAME = "a<b>&'\u2028</script>.wav"
GUARD = 60  # seconds that a busy machine may take


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
    with pytest.raises(UserError, match=r"expected up to 3 hours for a page, found 3\.5; write another format, such as"):
        check_page_length(Recording(timeline.recording.path, 3.5 * 3600, RATE))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def page(browser: Chrome, written: Path, tmp_path: Path) -> Chrome:
    """The page, opened from the disk once more."""
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    resize(browser, 1280, 900)
    browser.execute_script("window.onbeforeunload = null; if (window.saved) saved = segments")
    browser.get(written.as_uri())
    return browser


def downloaded(folder: Path, suffix: str) -> Path:
    deadline = time.monotonic() + GUARD
    while not (files := list(folder.glob(f"*{suffix}"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return files[0]
