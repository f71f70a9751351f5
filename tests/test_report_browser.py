"""The report in a real browser: nothing blank, nothing cut off, nothing asked of anybody, nothing on the console."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from analysis import report
from tests.synthetic_runs import write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: install Debian's package `chromium`")

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps", "--force-color-profile=srgb"),
)
MEASURE = """<script>
addEventListener("load", () => {
const boxes = [...document.querySelectorAll("figure svg")].map(svg => svg.getBoundingClientRect());
const focusable = [...document.querySelectorAll("a[href], [tabindex='0'], summary")].length;
document.title = JSON.stringify({
  figures: boxes.map(box => [box.width, box.height]), focusable,
  overflow: document.documentElement.scrollWidth - window.innerWidth,
  asked: performance.getEntriesByType("resource").map(entry => entry.name),
  text: getComputedStyle(document.body).color, page: getComputedStyle(document.body).backgroundColor,
});
});
</script>"""


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None, "the module is skipped without it"
    profile = page.parent / "profile"
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", "--enable-logging=stderr", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)


def measured(page: Path, *options: str) -> dict[str, object]:
    found = re.search(r"<title>(.*?)</title>", browse(page, "--dump-dom", *options).stdout, re.DOTALL)
    assert found is not None, "the page was read"
    sizes: dict[str, object] = json.loads(unescape(found[1]))
    return sizes


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(write_run(tmp_path_factory.mktemp("browser") / "run"))


@pytest.fixture(scope="module")
def ruled(page: Path) -> Path:
    """The page with a script that measures it."""
    copy = page.with_name("ruled.html")
    copy.write_text(page.read_text("utf-8").replace("</body>", MEASURE + "</body>"), "utf-8")
    return copy


@pytest.mark.parametrize("width", [390, 1200], ids=["phone", "desk"])
def test_every_figure_has_room_and_nothing_runs_out_of_the_page(ruled: Path, width: int) -> None:
    found = measured(ruled, f"--window-size={width},900")
    figures = found["figures"]
    assert isinstance(figures, list) and len(figures) == 4
    assert all(w > 280 and h > 120 for w, h in figures), figures
    assert int(str(found["overflow"])) <= 0
    assert int(str(found["focusable"])) >= 10, "sections, tables and details can be reached by keyboard"


def test_light_and_dark_are_two_palettes(ruled: Path) -> None:
    light = measured(ruled, "--blink-settings=preferredColorScheme=1")
    dark = measured(ruled, "--blink-settings=preferredColorScheme=0")
    assert light["page"] != dark["page"] and light["text"] != dark["text"]


def test_the_page_is_quiet_and_asks_nobody(page: Path, ruled: Path) -> None:
    picture = page.with_name("page.png")
    said = browse(page, f"--screenshot={picture}", "--window-size=1000,6000").stderr
    assert "CONSOLE" not in said, said
    assert measured(ruled)["asked"] == []
    image = Image.open(picture).convert("L")
    assert image.crop((0, 0, 1000, 3000)).getextrema()[0] < 128


def test_a_page_with_a_fault_would_be_noticed(page: Path) -> None:
    """The checks above can fail: a page that complains, and one that asks for something, are told apart."""
    bad = page.with_name("bad.html")
    bad.write_text(f"<title></title><script>console.error('x')</script><img src='http://127.0.0.1:9/x.png'>{MEASURE}")
    assert "CONSOLE" in browse(bad, "--dump-dom").stderr
    assert measured(bad)["asked"] == ["http://127.0.0.1:9/x.png"]
