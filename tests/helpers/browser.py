"""Headless Chromium, as Debian's packages chromium and chromium-driver install it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
DRIVER = shutil.which("chromedriver")


@contextmanager
def chromium(profile: Path, width: int = 1280, height: int = 900) -> Iterator[webdriver.Chrome]:
    """Start a browser with a new profile; narrow ones count as phones."""
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        resize(browser, width, height)
        yield browser
    finally:
        browser.quit()


def resize(browser: webdriver.Chrome, width: int, height: int) -> None:
    """Set the size of the page, which may be narrower than any window."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def save_whole_page(browser: webdriver.Chrome, width: int, file: Path) -> None:
    """Save a screenshot of the page from its top to its end."""
    resize(browser, width, browser.execute_script("return document.documentElement.scrollHeight"))
    file.parent.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(file))
