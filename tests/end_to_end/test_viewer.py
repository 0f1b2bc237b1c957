"""`ns-viewer` shows the scene: its page, in a real browser, gets a rendered frame."""

import io
import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator

import numpy as np
import pytest
from PIL import Image

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra `dev`)")
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    # WebGL in software, without a screen.
    *("--headless=new", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--enable-webgl"),
    *("--ignore-gpu-blocklist", "--window-size=900,600"),
    # For containers: running as root, with a small /dev/shm, without a way out.
    *("--no-sandbox", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
PATIENCE_SECONDS = 240

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's packages chromium and chromium-driver"),
]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serving(config: Path, environment: Dict[str, str], log: Path) -> Iterator[str]:
    """Address of a running `ns-viewer`."""
    port = free_port()
    command = [str(Path(environment["PATH"]) / "ns-viewer"), "--load-config", str(config)]
    command += ["--viewer.websocket-host", "127.0.0.1", "--viewer.websocket-port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert process.poll() is None, log.read_text()[-6000:]
            assert time.monotonic() < deadline, f"no answer on port {port}\n{log.read_text()[-6000:]}"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def viewer_address(trained_run: Path, environment: Dict[str, str], tmp_path_factory) -> Iterator[str]:
    """Address of the viewer of a run on one scene."""
    with serving(trained_run / "config.yml", environment, tmp_path_factory.mktemp("viewer") / "log.txt") as address:
        yield address


@pytest.fixture(scope="module")
def scenes_address(scenes_run: Path, environment: Dict[str, str], tmp_path_factory) -> Iterator[str]:
    """Address of the viewer of a run across scenes."""
    with serving(scenes_run / "config.yml", environment, tmp_path_factory.mktemp("viewer") / "log.txt") as address:
        yield address


@pytest.fixture(scope="module")
def splats_address(splat_run: Path, environment: Dict[str, str], tmp_path_factory) -> Iterator[str]:
    """Address of the viewer of a run of splats."""
    with serving(splat_run / "config.yml", environment, tmp_path_factory.mktemp("viewer") / "log.txt") as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator:
    """A headless browser of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def screenshot(browser) -> np.ndarray:
    """(H, W, 3) uint8 picture of the page."""
    return np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))


def scene_region(browser, page: np.ndarray) -> np.ndarray:
    """The part of the picture where the viewer draws the scene, left of the panel."""
    areas = [canvas.rect for canvas in browser.find_elements("tag name", "canvas")]
    area = min(areas, key=lambda rect: rect["width"])  # the larger canvas reaches below the panel
    x, y, width, height = (int(area[key]) for key in ("x", "y", "width", "height"))
    return page[y : y + height, x : x + width]


def coverage(region: np.ndarray, panel_colour: np.ndarray) -> float:
    """Share of pixels that are neither the panel's background nor black."""
    away_from_panel = np.abs(region.astype(int) - panel_colour).max(axis=-1) > 12
    return float((away_from_panel & (region.max(axis=-1) > 12)).mean())


@pytest.mark.parametrize("address", ["viewer_address", "splats_address"])
def test_a_frame_is_rendered(address: str, browser, tmp_path: Path, request: pytest.FixtureRequest):
    browser.get(request.getfixturevalue(address))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        page = screenshot(browser)
        shown = re.search(r"Resolution: (\d+)\D+(\d+)px", browser.find_element("tag name", "body").text)
        if browser.find_elements("tag name", "canvas") and shown:
            region = scene_region(browser, page)
            # The header above the scene has the colour of the panel.
            seen = coverage(region, panel_colour=page[2, 2].astype(int))
            if seen > 0.6 and region.std(axis=(0, 1)).max() > 15 and int(shown[1]) >= 64:
                break
        if time.monotonic() > deadline:
            Image.fromarray(page).save(tmp_path / "page.png")
            pytest.fail(f"no rendered frame after {PATIENCE_SECONDS} s; the page: {tmp_path / 'page.png'}")
        time.sleep(1.0)
    # A frame, not a colour gradient: neighbouring blocks of the picture differ.
    blocks = region[: region.shape[0] // 40 * 40, : region.shape[1] // 40 * 40]
    means = blocks.reshape(blocks.shape[0] // 40, 40, -1, 40, 3).mean(axis=(1, 3))
    assert np.abs(np.diff(means, axis=1)).mean() > 2.0


def waited_for(browser, what: str, condition: Callable[[], bool]) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not after {PATIENCE_SECONDS} s; the page says\n{page_text(browser)[-1500:]}")
        time.sleep(1.0)


def page_text(browser) -> str:
    return browser.find_element("tag name", "body").text


def scene_picture(browser) -> np.ndarray:
    return scene_region(browser, screenshot(browser)).astype(int)


def change_of(browser, before: np.ndarray) -> float:
    """Mean difference of what the page shows now, grey values."""
    now = scene_picture(browser)
    return float(np.abs(now - before).mean()) if now.shape == before.shape else 0.0


def test_sliders_move_the_camera(viewer_address: str, browser):
    browser.get(viewer_address)
    waited_for(browser, "the sliders", lambda: "sphere" in page_text(browser) and "Resolution" in page_text(browser))
    # Not before the page has drawn the finest picture of the camera that stands still.
    pictures = [scene_picture(browser)]

    def still() -> bool:
        time.sleep(2.0)
        pictures.append(scene_picture(browser))
        return pictures[-1].std() > 15 and bool(np.abs(pictures[-1] - pictures[-2]).mean() < 0.5)

    waited_for(browser, "a still picture", still)
    (field,) = browser.find_elements("xpath", "//label[normalize-space()='phi']/../../..//input[@type='text']")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("1.2", Keys.ENTER)
    waited_for(browser, "another picture", lambda: change_of(browser, pictures[-1]) > 8)


def test_an_unseen_view_is_shown(viewer_address: str, browser):
    """Of a run without the semantic prior, on a machine without weights: the rendering, and what is missing."""
    browser.get(viewer_address)
    button = "//button[contains(., 'Draw an unseen view')]"
    waited_for(browser, "the button", lambda: len(browser.find_elements("xpath", button)) == 1)
    browser.execute_script("arguments[0].click()", browser.find_element("xpath", button))
    waited_for(browser, "the report", lambda: "No similarity to the training views" in page_text(browser))
    text = page_text(browser)
    assert "box, from (" in text and "weights not found" in text and "--pipeline.semantic.encoder.weights" in text
    (picture,) = browser.find_elements("css selector", "img[alt='rendering']")
    # The grid of the semantic prior.
    assert browser.execute_script("return arguments[0].naturalWidth", picture) == 24


def field_of(browser, label: str):
    """The input beside a label of the panel."""
    (field,) = browser.find_elements(
        "xpath", f"//label[normalize-space()='{label}']/../../..//input[not(@type='hidden')]"
    )
    return field


def test_scene_and_source_views_are_switched(scenes_address: str, browser):
    browser.get(scenes_address)
    waited_for(browser, "the controls", lambda: "scene_controls" in page_text(browser))
    first = field_of(browser, "Shown").get_attribute("value")
    assert first.startswith("chair_0006, from ")
    button = "//button[normalize-space()='Show']"
    waited_for(browser, "the button", lambda: len(browser.find_elements("xpath", button)) == 1)
    state = lambda: field_of(browser, "Shown").get_attribute("value")  # noqa: E731
    wanted = "chair_0006, from 1 3"

    def pressed() -> bool:
        """Types and presses, again if need be: on a busy machine the page may drop keys that are typed into a field."""
        if state() == wanted:
            return True
        field = field_of(browser, "Source views")
        if field.get_attribute("value") != "1 3":
            field.send_keys(Keys.CONTROL, "a")
            field.send_keys("1 3", Keys.ENTER)
        else:
            browser.execute_script("arguments[0].click()", browser.find_element("xpath", button))
        return False

    waited_for(browser, "other source views", pressed)
    before = scene_picture(browser)
    browser.execute_script("arguments[0].click()", field_of(browser, "Scene"))
    option = "//*[@role='option'][contains(., 'table_0007')]"
    waited_for(browser, "the list", lambda: len(browser.find_elements("xpath", option)) == 1)
    browser.execute_script("arguments[0].click()", browser.find_element("xpath", option))
    waited_for(browser, "another scene", lambda: state().startswith("table_0007, from "))
    waited_for(browser, "another picture", lambda: change_of(browser, before) > 0.5)
