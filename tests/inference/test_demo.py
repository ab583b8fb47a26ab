"""The web page: through a real browser what its users see, and without one what its parts say."""

import json
import os
import tracemalloc
import wave
from collections.abc import Iterator
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from browser import DRIVER, chromium, save_whole_page
from checkpoints_of import write_checkpoint
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from hf_vivae.audio import resample
from hf_vivae.corpus import EMOTIONS
from hf_vivae.inference import demo
from hf_vivae.inference.demo import (
    DELETED,
    MOST_SAMPLES,
    ORIGINS,
    _answer,
    _load_beginning,
    _origin,
    build_demo,
    write_examples,
)
from hf_vivae.inference.demo_server import launch
from hf_vivae.inference.scorer import Scorer
from hf_vivae.inference.timeline import Recording
from hf_vivae.run_folder import CORPUS_FIELD

RATE = 44100
SECONDS = 120  # that a page may take on a busy machine
# artefacts of a run of the tests
SHOTS = Path(os.environ.get("HF_VIVAE_SCREENSHOTS", Path(__file__).parents[2] / "runs" / "screenshots"))
browser_test = [
    pytest.mark.browser,
    pytest.mark.skipif(DRIVER is None, reason="no chromedriver; apt-get install chromium chromium-driver"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_corpus(write_checkpoint(tmp_path_factory.mktemp("checkpoint")), "synthetic")


def with_corpus(checkpoint: Path, name: Any) -> Path:
    """The checkpoint, as a training on that corpus leaves it."""
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, CORPUS_FIELD: name}))
    return checkpoint


@pytest.fixture(scope="module")
def served(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    page = build_demo([str(checkpoint)], write_examples(tmp_path_factory.mktemp("examples")))
    _, address, _ = launch(page, quiet=True)
    yield address
    page.close()


@pytest.fixture(params=[(1280, "desktop"), (390, "phone")], ids=["desktop", "phone"])
def opened(request, served: str, tmp_path: Path) -> Iterator[tuple[Chrome, int, str]]:
    width, name = request.param
    with chromium(tmp_path / "profile", width) as browser:
        browser.get(served)
        yield browser, width, name


def choose(browser: Chrome, file: Path) -> None:
    """Give the page a file as its user would, and wait for its answer."""
    before = answer(browser)
    inputs = await_elements(browser, "input[type=file]")
    inputs[0].send_keys(str(file))
    WebDriverWait(browser, SECONDS).until(
        lambda page: answer(page) not in (before, "") and "Drop" not in bars(page).text
    )


def answer(browser: Chrome) -> str:
    """The last answer as HTML, without what is shown over it until the next one."""
    return browser.execute_script("return document.querySelector('#bars .prose')?.innerHTML ?? ''")


def await_elements(browser: Chrome, selector: str) -> list:
    return WebDriverWait(browser, SECONDS).until(lambda page: page.find_elements(By.CSS_SELECTOR, selector))


def bars(browser: Chrome):
    return browser.find_element(By.ID, "bars")


@pytest.mark.parametrize("long", [False, True], ids=["clip", "recording"])
class TestAClipOnThePage:
    pytestmark = browser_test

    def test_its_bars_are_the_probabilities_of_the_checkpoint(self, opened, checkpoint, tmp_path, long):
        browser, width, name = opened
        clips = [soundfile.read(clip)[0] for clip in write_examples(tmp_path)]
        file = tmp_path / "clip.wav"
        soundfile.write(file, np.concatenate(clips) if long else clips[0], RATE)
        choose(browser, file)
        meters = bars(browser).find_elements(By.TAG_NAME, "meter")
        shown = {
            bars(browser).find_element(By.ID, meter.get_attribute("aria-labelledby")).text: float(
                meter.get_attribute("value")
            )
            for meter in meters
        }
        scorer = Scorer(str(checkpoint), device="cpu")
        (scores,) = scorer.score([str(file)])
        assert shown == pytest.approx(dict(zip(scorer.labels, scores.tolist(), strict=True)), abs=1e-4)
        assert len(shown) == len(EMOTIONS)
        assert "not calibrated" in bars(browser).text
        assert "Trained on synthetic clips" in bars(browser).text
        pictures = 2 if long else 1
        WebDriverWait(browser, SECONDS).until(
            lambda page: sum(one.size["height"] > 50 for one in page.find_elements(By.CSS_SELECTOR, "img")) >= pictures
        )
        words = browser.find_elements(By.CSS_SELECTOR, "#segments summary")
        assert len(words) == long
        if long:
            words[0].click()
            assert browser.find_element(By.CSS_SELECTOR, "#segments li").text.startswith("0.00 s to ")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, "no sideways scrolling"
        places = [image.rect for image in browser.find_elements(By.CSS_SELECTOR, "img")]
        assert all(place["x"] + place["width"] <= width for place in places), "pictures are seen whole"
        save_whole_page(browser, width, SHOTS / f"{name}-{'recording' if long else 'clip'}.png")


class TestABadFileOnThePage:
    pytestmark = browser_test

    def test_is_a_sentence_and_the_page_goes_on(self, opened, tmp_path):
        browser, width, name = opened
        bad, good = tmp_path / "bad.wav", write_examples(tmp_path)[0]
        bad.write_bytes(b"RIFF but not really")
        choose(browser, bad)
        assert "expected WAV, FLAC, OGG, MP3" in bars(browser).text
        assert "Traceback" not in browser.page_source
        save_whole_page(browser, width, SHOTS / f"{name}-bad-file.png")
        browser.find_element(By.CSS_SELECTOR, "button[aria-label='Clear']").click()
        choose(browser, good)
        assert len(bars(browser).find_elements(By.TAG_NAME, "meter")) == len(EMOTIONS)


class TestThePage:
    pytestmark = browser_test

    def test_says_before_any_clip_what_its_checkpoint_learnt_from(self, opened):
        browser, width, name = opened
        WebDriverWait(browser, SECONDS).until(lambda page: "Trained on synthetic clips" in bars(page).text)
        assert "Drop, pick or record" in bars(browser).text
        save_whole_page(browser, width, SHOTS / f"{name}-opened.png")

    def test_has_examples_to_pick_and_is_the_same_at_another_name_of_this_machine(self, opened, served):
        browser, _, _ = opened
        browser.get(served.replace("127.0.0.1", "localhost"))
        await_elements(browser, "button.gallery-item, tr.tr-body")[0].click()
        await_elements(browser, "#bars meter")

    def test_is_used_with_the_keyboard_alone(self, opened):
        browser, _, _ = opened
        await_elements(browser, "input[type=file]")
        reached = set()
        for _ in range(40):
            browser.switch_to.active_element.send_keys(Keys.TAB)
            focused = browser.switch_to.active_element
            reached.add(focused.get_attribute("aria-label") or focused.text or focused.tag_name)
        words = " ".join(reached).lower()
        assert "upload" in words or "drop" in words or "click" in words
        assert "checkpoint" in words

    def test_asks_nothing_of_other_machines(self, opened):
        browser, _, _ = opened
        await_elements(browser, "input[type=file]")
        names = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert names
        assert [name for name in names if "127.0.0.1" not in name and not name.startswith(("data:", "blob:"))] == []


def test_examples_are_a_clip_of_each_emotion(tmp_path):
    files = write_examples(tmp_path)
    assert [file.stem for file in files] == [f"synthetic_{emotion}" for emotion in EMOTIONS]
    assert all(soundfile.info(file).samplerate == RATE for file in files)


@pytest.mark.parametrize("name", [*ORIGINS, ["synthetic"], None], ids=str)
def test_the_page_states_the_training_corpus_and_warns_of_generated_clips(name):
    html = _origin(SimpleNamespace(training_corpus=name))
    assert ORIGINS.get(str(name), "does not state what it was trained on") in html
    assert ('class="message"' in html) == (name in ("synthetic", "noise"))


def test_the_page_names_a_dataset_that_trained_the_model():
    html = _origin(SimpleNamespace(training_corpus="someone/<clips>"))
    assert html == "<p>Trained on the dataset someone/&lt;clips&gt;, without further information.</p>"


def test_an_answer_states_the_training_corpus(tmp_path):
    checkpoint = with_corpus(write_checkpoint(tmp_path / "checkpoint"), "vivae")
    for clip in (None, str(write_examples(tmp_path)[0])):
        assert ORIGINS["vivae"] in _answer(clip, str(checkpoint))[0]


def test_the_training_corpus_of_an_earlier_commits_checkpoint_is_read_from_its_run_folder(tmp_path):
    checkpoint = write_checkpoint(tmp_path)
    (checkpoint / "run.json").write_text(json.dumps({"corpus": {"name": "noise"}}))
    assert ORIGINS["noise"] in _answer(None, str(checkpoint))[0]


@pytest.mark.parametrize(("seconds", "length"), [(600.4, "10:01"), (601, "10:01"), (660, "11:00"), (3725, "62:05")])
def test_the_refusal_of_a_long_recording_gives_its_length(seconds, length, checkpoint, tmp_path):
    soundfile.write(tmp_path / "long.flac", np.zeros(round(seconds * 1000), np.int16), 1000)
    answer = _answer(str(tmp_path / "long.flac"), str(checkpoint))[0]
    assert f"expected up to 10:00 minutes, found {length}; hf-vivae timeline takes recordings" in answer


def write_silence(path: Path, rate: int, channels: int, seconds: float) -> str:
    """A WAV of 16 bits that takes no room on a disk."""
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
    header = bytearray(path.read_bytes())
    size = 2 * channels * round(seconds * rate)
    header[4:8], header[40:44] = (36 + size).to_bytes(4, "little"), size.to_bytes(4, "little")
    path.write_bytes(header)
    os.truncate(path, len(header) + size)
    return str(path)


@pytest.mark.parametrize("content", [b"", b"no sound", "cut", "silence", None], ids=str)
def test_the_page_recommends_no_flags(content, checkpoint, tmp_path):
    """It has none."""
    clip = tmp_path / "x.wav"
    soundfile.write(clip, np.zeros(9000), RATE)
    if content == "cut":
        clip.write_bytes(clip.read_bytes()[:-100])
    elif content is None:
        clip.unlink()
    elif content != "silence":
        clip.write_bytes(content)
    answer = _answer(str(clip), str(checkpoint))[0]
    assert "expected" in answer
    assert "--" not in answer


def test_a_clip_of_many_channels_is_refused_by_its_header(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vivae.audio.load", lambda *_, **__: pytest.fail("309,325,200 samples are decoded"))
    answer = _answer(write_silence(tmp_path / "x.wav", 655_350, 8, 59), str(checkpoint))[0]
    assert f"expected up to {MOST_SAMPLES:,} samples in all channels, found 309,325,200; save it as" in answer


def test_of_a_long_recording_only_the_part_for_the_model_is_decoded(checkpoint, tmp_path):
    """Of 590 s, which are 226 MB as floats, `_answer` refuses the first minute, since it is silence."""
    recording = write_silence(tmp_path / "x.wav", 96_000, 1, 590)
    _answer(None, str(checkpoint))
    tracemalloc.start()
    answer = _answer(recording, str(checkpoint))[0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "x.wav: expected sound in its first" in answer
    assert peak < 100e6


def test_the_first_minute_of_a_long_recording_is_used(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, 70 * 8000).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", samples, 8000, subtype="FLOAT")
    scorer = SimpleNamespace(load_audio=lambda sound: sound["array"], sampling_rate=16000)
    beginning = _load_beginning(scorer, Recording.open(tmp_path / "x.wav"))
    np.testing.assert_allclose(beginning, resample(samples, 8000, 16000)[: 60 * 16000], atol=1e-6)


@pytest.mark.parametrize("moment", ["before it is read", "while it is read"])
def test_the_message_of_a_deleted_clip_is_without_its_path(moment, checkpoint, tmp_path, monkeypatch):
    clip = write_examples(tmp_path)[0]
    if moment == "before it is read":
        clip.unlink()
    else:
        check = demo._check_size
        monkeypatch.setattr(demo, "_check_size", lambda recording: (check(recording), clip.unlink()))
    answer = _answer(str(clip), str(checkpoint))[0]
    assert escape(DELETED) in answer
    assert str(tmp_path) not in answer


def test_an_error_of_our_own_is_no_sentence_on_the_page(checkpoint, tmp_path, monkeypatch):
    def fail(recording):
        raise ValueError("shapes differ")

    monkeypatch.setattr(demo, "_check_size", fail)
    with pytest.raises(ValueError, match="shapes differ"):
        _answer(str(write_examples(tmp_path)[0]), str(checkpoint))
