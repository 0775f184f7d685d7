"""The widget as people have it: JupyterLab in Chromium, sliders moved by keys, pictures compared by their pixels.

MEGALITH_SCREENSHOTS names a directory where pictures of the pages are kept; without it they are in the test's own.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import megalith

WAIT_S = 40
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or CHROMEDRIVER is None, reason="needs a browser: apt-get install chromium chromium-driver"
)

SPACE = """
import time
from pathlib import Path
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from megalith import Parameter, ParameterSpace

length = Parameter("length", [1, 2, 3, 4], unit="mm")
amplitude = Parameter("amplitude", minimum=0.5, maximum=2.0, step=0.5)
colour = Parameter("colour", ["tab:blue", "tab:red", "green"])
space = ParameterSpace("waves", [length, amplitude, colour])
space.enable_cache("cache")

def wave(length, amplitude, colour):
    with open("calls", "a") as file:
        file.write(f"{length} {amplitude} {colour}\\n")
    if colour == "green":
        while not Path("go").exists():
            time.sleep(0.05)
    if colour == "tab:red" and length == 4:
        raise ValueError("no red waves of 4 mm")
    figure = Figure(figsize=(4, 2.5))
    axes = figure.add_subplot(title=f"length {length}, amplitude {amplitude}")
    x = [i / 50 for i in range(201)]
    axes.plot(x, [amplitude * ((t / length) % 1) for t in x], color=colour)
    axes.set_ylim(0, 2)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.buffer_rgba()

space.product("length", "amplitude").sweep(wave)
"""
MOVE = "length.value = 4"


class Page:
    """A notebook in a tab of the browser."""

    def __init__(self, driver: Any, directory: Path, screenshots: Path) -> None:
        self.driver = driver
        self.directory = directory
        self.screenshots = screenshots

    def find(self, css: str) -> list[Any]:
        return self.driver.find_elements("css selector", css)

    def wait(self, what: Any) -> Any:
        """Wait until a function gives something true, and return that."""
        from selenium.common.exceptions import InvalidElementStateException, StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        not_yet = (IndexError, InvalidElementStateException, StaleElementReferenceException)
        waiting = WebDriverWait(self.driver, WAIT_S, 0.05, not_yet)
        try:
            return waiting.until(lambda _: what())
        except BaseException:
            self.screenshot("failed")
            raise

    def run(self, i_cell: int) -> None:
        """Run a cell."""
        from selenium.webdriver.common.keys import Keys

        def is_started() -> bool:
            cell = self.find(".jp-Notebook .jp-CodeCell")[i_cell]
            if cell.find_element("css selector", ".jp-InputPrompt").text not in ("", "[ ]:"):
                return True
            editor = cell.find_element("css selector", ".cm-content")
            editor.click()
            editor.send_keys(Keys.CONTROL, Keys.ENTER)  # a page that is still being laid out loses keys
            time.sleep(0.5)
            return False

        self.wait(is_started)

    def handle(self, i: int) -> Any:
        """What a slider is moved by."""
        return self.wait(lambda: self.find(".noUi-handle"))[i]

    def press(self, i: int, key: str) -> None:
        self.handle(i).send_keys(key)

    def choose(self, text: str) -> None:
        """Choose from the drop-down."""
        from selenium.webdriver.support.ui import Select

        Select(self.wait(lambda: self.find(".widget-dropdown select"))[0]).select_by_visible_text(text)

    def texts(self) -> str:
        """All that the widget says in words."""
        return "\n".join(part.text for part in self.find(".widget-html-content"))

    def wait_for(self, text: str) -> None:
        self.wait(lambda: text in self.texts())

    def picture(self) -> np.ndarray | None:
        """The pixels that are seen of the result, None if there are none to see."""
        from matplotlib.image import imread

        shown = [img for img in self.find(".widget-html-content img") if img.is_displayed()]
        return imread(io.BytesIO(shown[0].screenshot_as_png)) if shown else None

    def wait_for_picture(self, other_than: np.ndarray | None = None) -> np.ndarray:
        """The pixels of the result as soon as it can be seen, and is not the same as before."""

        def seen() -> list[np.ndarray]:
            picture = self.picture()
            is_other = other_than is None or not np.array_equal(picture, other_than)
            return [picture] if picture is not None and is_other else []

        return self.wait(seen)[0]

    def screenshot(self, name: str) -> None:
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))

    def calls(self) -> list[str]:
        """What the function was called with."""
        return (self.directory / "calls").read_text().splitlines()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A JupyterLab with settings of its own: the directory it serves, and what it says of itself."""
    pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install jupyterlab")
    base = tmp_path_factory.mktemp("jupyter")
    settings = base / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    notebooks = base / "notebooks"
    notebooks.mkdir()
    package = str(Path(megalith.__file__).parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        "IPYTHONDIR": str(base / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(base / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(base / "workspaces"),
        **{f"JUPYTER_{name}_DIR": str(base / name) for name in ("RUNTIME", "CONFIG", "DATA")},
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    with (base / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--ServerApp.root_dir={notebooks}"], env=environment, stdout=log, stderr=log
        )
    try:
        yield notebooks, announced(process, base)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()  # its kernels end by themselves
            process.wait()


def announced(process: subprocess.Popen[bytes], base: Path) -> dict[str, Any]:
    """Wait for the file in which a server says where it is."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end and process.poll() is None:
        for path in (base / "RUNTIME").glob(f"jpserver-{process.pid}.json"):
            try:
                return json.loads(path.read_text())
            except ValueError:  # it is being written
                continue
        time.sleep(0.1)
    raise AssertionError((base / "log").read_text())


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """A Chromium without a screen."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,1100"):
        options.add_argument(argument)
    with tempfile.TemporaryDirectory() as directory:  # Chromium leaves things behind
        service = webdriver.ChromeService(CHROMEDRIVER, env={**os.environ, "TMPDIR": directory})
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture
def page(server: tuple[Path, dict[str, Any]], driver: Any, tmp_path: Path) -> Page:
    """A notebook whose first cell has been run and shows the widget."""
    notebooks, about = server
    directory = notebooks / tmp_path.name
    directory.mkdir()
    cells = [
        {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None, "id": f"c{i}"}
        for i, source in enumerate(["from waves import *\nspace.widget(wave)", MOVE])
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": cells}
    (directory / "sliders.ipynb").write_text(json.dumps(notebook))
    (directory / "waves.py").write_text(SPACE)
    screenshots = Path(os.environ.get("MEGALITH_SCREENSHOTS", tmp_path))
    screenshots.mkdir(parents=True, exist_ok=True)
    page = Page(driver, directory, screenshots)
    driver.switch_to.new_window("tab")
    driver.get(f"{about['url']}lab/tree/{directory.name}/sliders.ipynb?token={about['token']}&reset")
    page.wait(lambda: page.find('.jp-Notebook-ExecutionIndicator[data-status="idle"]'))
    page.run(0)
    page.wait(lambda: any(state in page.texts() for state in ("cached", "failed")))
    assert "cached" in page.texts(), page.texts()
    return page


def test_widget_slider_is_moved_by_keys_and_the_cached_picture_changes(page):
    from selenium.webdriver.common.keys import Keys

    n_calls = len(page.calls())
    before = page.wait_for_picture()
    page.screenshot("widget-before")
    page.press(0, Keys.ARROW_RIGHT)
    longer = page.wait_for_picture(other_than=before)
    page.press(1, Keys.ARROW_RIGHT)
    higher = page.wait_for_picture(other_than=longer)
    page.screenshot("widget")
    assert [readout.text for readout in page.find(".widget-readout")] == ["2", "1"]
    assert before.shape == longer.shape == higher.shape
    assert np.abs(longer - before).max() > 0.5
    assert np.abs(higher - longer).max() > 0.5
    assert len(page.calls()) == n_calls


def test_widget_value_set_in_python_moves_the_slider_and_changes_the_picture(page):
    before = page.wait(lambda: page.find(".widget-readout"))[0].text
    picture = page.wait_for_picture()
    page.run(1)
    page.wait(lambda: page.find(".widget-readout")[0].text == "4")
    page.wait_for_picture(other_than=picture)
    assert before == "1"


def test_widget_point_that_is_not_cached_is_computed_by_the_button(page):
    n_calls = len(page.calls())
    blue = page.wait_for_picture()
    page.choose("tab:red")
    page.wait_for("not computed yet")
    assert page.picture() is None
    page.screenshot("widget-not-computed")
    page.find("button.widget-button")[0].click()
    page.wait_for("computed in")
    red = page.wait_for_picture()
    page.screenshot("widget-computed")
    assert page.calls()[n_calls:] == ["1 0.5 tab:red"]
    assert red.shape == blue.shape
    assert not np.array_equal(red, blue)


def test_widget_goes_on_showing_cached_pictures_while_a_point_is_computed(page):
    page.find(".widget-checkbox input")[0].click()
    page.choose("green")
    page.wait_for("computing...")
    page.wait(lambda: "green" in page.calls()[-1])
    page.screenshot("widget-computing")
    page.choose("tab:blue")
    page.wait_for("cached")
    page.wait_for_picture()
    (page.directory / "go").touch()
    page.choose("green")
    page.wait(lambda: any(state in page.texts() for state in ("computed in", "cached")))
    page.wait_for_picture()
    assert page.calls()[-1] == "1 0.5 green"


def test_widget_point_that_fails_shows_its_traceback(page):
    page.run(1)
    page.wait(lambda: page.find(".widget-readout")[0].text == "4")
    page.choose("tab:red")
    page.wait_for("not computed yet")
    page.find("button.widget-button")[0].click()
    page.wait_for("ValueError: no red waves of 4 mm")
    page.screenshot("widget-failed")
    assert page.texts().count("Traceback") == 1
