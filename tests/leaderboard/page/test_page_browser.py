"""The page in a browser: sorting, filters, light and dark, zoom, without scripts, on a phone; nothing is fetched."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from verified_entries import verify

from llmsched_gym.leaderboard.page import build
from llmsched_gym.leaderboard.page.board import Board
from llmsched_gym.leaderboard.page.building import pages
from llmsched_gym.suites.suite import Suite

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "window-size=1280,900"),
)
HARM = '"><img src=/pixel onerror="window.harmed=1"><script>window.harmed=1</script>'
ENTRY = "entries/board-v1/2026-01-03_shortest.html"


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(handed_in: Path, board_suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the page is; below ``harm`` is one of somebody who means it."""
    folder = tmp_path_factory.mktemp("served")
    given = shutil.copytree(handed_in, folder / "submissions")
    for name in ("2026-01-02_first", "2026-01-05_truth"):  # the best entry is one without a rank
        verify(given / "board-v1" / name, board_suite)
    boards = build(given, folder / "site", [board_suite])
    for name, content in pages([with_harm(board) for board in boards]).items():
        path = folder / "site" / "harm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder / "site")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def with_harm(board: Board) -> Board:
    rows = []
    for row in board.rows:
        said = row.entry.submission.model_copy(update={"name": HARM, "authors": (HARM, "\u202etxet")})
        entry = replace(row.entry, submission=said, write_up=f"# {HARM}\n\n[x](javascript:window.harmed=1) {HARM}\n")
        rows.append(replace(row, entry=entry))
    return replace(board, rows=tuple(rows))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser without a window."""
    if importlib.util.find_spec("selenium") is None:
        pytest.skip("selenium is not installed (pip install -e '.[dev]')")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


class Reader:
    """Somebody who reads the page.

    Args:
        browser: Theirs.
        address: Where the page is.
    """

    def __init__(self, browser: Any, address: str) -> None:
        self.browser, self.address = browser, address

    def opens(self, path: str = "index.html", scheme: str = "light", width: int = 1280, scripts: bool = True) -> None:
        """Open a page as if for the first time."""
        self.tells("Emulation.setScriptExecutionDisabled", value=not scripts)
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.tells("Emulation.setEmulatedMedia", features=features)
        self.tells(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        self.tells("Storage.clearDataForOrigin", origin=self.address, storageTypes="local_storage")
        self.browser.get(f"{self.address}/{path}")

    def tells(self, command: str, **parameters: object) -> None:
        """Tell the browser."""
        self.browser.execute_cdp_cmd(command, parameters)

    def asks(self, code: str) -> Any:
        """Return what a piece of JavaScript says."""
        return self.browser.execute_script(f"return {code}")

    def finds(self, selector: str) -> Any:
        """Return the only element."""
        (found,) = self.browser.find_elements("css selector", selector)
        return found

    def column(self, header: str) -> list[str]:
        """Return the shown cells of a column of the first table."""
        (at,) = (n for n, name in enumerate(self.headers()) if name == header)
        rows = self.asks(
            "[...document.querySelectorAll('table.sortable tbody tr')].filter(row => row.checkVisibility())"
            f".map(row => row.cells[{at}].firstChild.textContent.trim())"
        )
        return list(rows)

    def headers(self) -> list[str]:
        """Return the names of the columns."""
        return self.asks("[...document.querySelectorAll('table.sortable thead th')].map(one => one.textContent.trim())")

    def sorts(self, header: str) -> str:
        """Sort by a column, by the keyboard; return the direction."""
        from selenium.webdriver.common.keys import Keys

        (at,) = (n for n, name in enumerate(self.headers()) if name == header)
        self.browser.find_elements("css selector", "table.sortable thead button")[at].send_keys(Keys.ENTER)
        return self.asks(f"document.querySelectorAll('table.sortable thead th')[{at}].getAttribute('aria-sort')")


@pytest.fixture
def reader(browser: Any, address: str) -> Iterator[Reader]:
    """Somebody who reads; whose browser must not complain, or fetch anything from elsewhere, at the end."""
    browser.get_log("performance")
    browser.get_log("browser")
    yield Reader(browser, address)
    assert [line for line in browser.get_log("browser") if line["level"] in ("WARNING", "SEVERE")] == []
    events = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    fetched = [url for url in asked if re.match("(http|ws|ftp)s?:", url)]  # not what the browser brings along
    assert fetched
    assert [url for url in fetched if not url.startswith(f"{address}/")] == []


def test_sorting(reader: Reader) -> None:
    reader.opens()
    assert reader.asks("document.querySelector('[aria-sort]').textContent") == "Rank"
    scores = [float(one) for one in reader.column("Score")]
    assert reader.sorts("Score") == "ascending"
    assert [float(one) for one in reader.column("Score")] == sorted(scores) != scores
    assert reader.sorts("Score") == "descending"
    assert [float(one) for one in reader.column("Score")] == sorted(scores, reverse=True)
    assert reader.sorts("Badge") == "ascending"
    assert reader.column("Badge") == ["verified", "verified", "replayed", "claimed"]
    assert reader.sorts("Entry") == "ascending"
    assert reader.column("Entry") == ["first", "shortest", "truth", "two runs"]
    assert len(reader.asks("[...document.querySelectorAll('[aria-sort]')]")) == 1


def test_what_has_no_value_comes_last_in_both_directions(reader: Reader) -> None:
    reader.opens()
    for direction in ("descending", "ascending"):
        assert reader.sorts("Rank") == direction
        assert reader.column("Rank") == ["1", "not ranked", "not ranked", "not ranked"]


def test_filters(reader: Reader) -> None:
    from selenium.webdriver.common.keys import Keys

    reader.opens()
    status = reader.finds("#filters output")
    assert status.text == "4 of 4 entries shown"
    reader.finds("input[value=oracle]").send_keys(Keys.SPACE)
    assert "truth" not in reader.column("Entry")
    reader.finds("input[value=claimed]").click()
    assert sorted(reader.column("Entry")) == ["first", "shortest"]
    assert status.text == "2 of 4 entries shown"
    shown = reader.asks(
        "[...document.querySelectorAll('.plot [data-entry]')].filter(one => one.checkVisibility())"
        ".filter(one => getComputedStyle(one).display !== 'none').length"
    )
    assert shown == 2 * 2  # curves of the two entries in the two figures that are open
    reader.finds("input[value=oracle]").click()
    assert "truth" in reader.column("Entry")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(reader: Reader, scheme: str) -> None:
    colours = {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}
    other = "dark" if scheme == "light" else "light"
    background = "getComputedStyle(document.body).backgroundColor"
    reader.opens(scheme=scheme)
    assert reader.asks(background) == colours[scheme]
    assert reader.finds("#theme").get_attribute("aria-pressed") == str(scheme == "dark").lower()
    reader.finds("#theme").click()
    assert reader.asks(background) == colours[other]
    reader.browser.get(f"{reader.address}/{ENTRY}")
    assert reader.asks(background) == colours[other]  # kept from page to page
    assert reader.finds("#theme").get_attribute("aria-pressed") == str(other == "dark").lower()


def part_shown(reader: Reader) -> tuple[float, float]:
    first, _, width, _ = map(float, reader.finds(".time").get_dom_attribute("viewBox").split())
    return first, width


def test_zoom_by_buttons(reader: Reader) -> None:
    reader.opens(ENTRY)
    first, end = part_shown(reader)
    assert first == 0
    reader.finds("[data-does=in]").click()
    assert part_shown(reader) == pytest.approx((end / 4, end / 2))
    reader.finds("[data-does=right]").click()
    assert part_shown(reader) == pytest.approx((end * 3 / 8, end / 2))
    ticks = reader.asks("[...document.querySelectorAll('.gantt .tick')].map(one => Number(one.textContent))")
    assert ticks == pytest.approx([end * (3 / 8 + at / 10) for at in range(6)], abs=0.06)
    assert reader.finds(".gantt output").text.startswith(f"{end * 3 / 8:.1f} to {end * 7 / 8:.1f} s of ")
    for _ in range(3):
        reader.finds("[data-does=right]").click()
    assert part_shown(reader) == pytest.approx((end / 2, end / 2))  # not beyond the end
    reader.finds("[data-does=whole]").click()
    assert part_shown(reader) == pytest.approx((0, end))


def test_zoom_by_keys(reader: Reader) -> None:
    from selenium.webdriver.common.keys import Keys

    reader.opens(ENTRY)
    chart, (_, end) = reader.finds(".gantt"), part_shown(reader)
    chart.send_keys("++")
    assert part_shown(reader) == pytest.approx((end * 3 / 8, end / 4))
    chart.send_keys(Keys.ARROW_LEFT)
    assert part_shown(reader) == pytest.approx((end * 5 / 16, end / 4))
    chart.send_keys("-0")
    assert part_shown(reader) == pytest.approx((0, end))
    chart.send_keys("+" * 30)
    assert part_shown(reader)[1] == pytest.approx(end / 500)


def test_zoom_by_dragging(reader: Reader) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    reader.opens(ENTRY)
    reader.finds("[data-does=in]").click()
    before, width = part_shown(reader)
    pixels = reader.asks("document.querySelector('.time').getBoundingClientRect().width")
    ActionChains(reader.browser).drag_and_drop_by_offset(reader.finds(".plot"), 100, 0).perform()
    assert part_shown(reader) == pytest.approx((before - width * 100 / pixels, width), rel=0.02)


def test_without_scripts_all_is_there(reader: Reader) -> None:
    reader.opens(scripts=False)
    table = reader.finds("table.sortable")
    assert all(name in table.text for name in ("first", "shortest", "two runs", "truth"))
    assert reader.browser.find_elements("css selector", "thead button") == []
    assert not reader.finds("#filters").is_displayed()
    assert not reader.finds("#theme").is_displayed()
    reader.opens(ENTRY, scripts=False)
    assert not reader.finds(".controls").is_displayed()
    reader.opens()


@pytest.mark.parametrize("path", ["index.html", ENTRY, "entries/board-v1/2026-01-04_two_runs.html"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(reader: Reader, path: str, width: int) -> None:
    reader.opens(path, width=width)
    reader.asks("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert reader.asks("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("path", ["harm/index.html", f"harm/{ENTRY}"])
def test_nothing_of_a_submission_runs(reader: Reader, path: str) -> None:
    reader.opens(path)
    assert reader.asks("window.harmed === undefined")
    assert reader.asks("document.images.length") == 0
    assert HARM in reader.finds("main").text


def test_the_policy_stops_what_got_in(browser: Any, address: str) -> None:
    reader = Reader(browser, address)
    reader.opens()
    reader.asks(
        """(() => {
        const made = document.createElement("img");
        made.src = "https://example.org/x";
        document.body.append(made);
        try { made.setAttribute("onerror", "window.harmed = 1"); } catch (error) { window.refused = error.message; }
        })()"""
    )
    assert "TrustedScript" in reader.asks("window.refused")
    refused = browser.get_log("browser")
    assert any("Content Security Policy" in line["message"] and "img-src" in line["message"] for line in refused)
    assert reader.asks("new Promise(done => setTimeout(() => done(window.harmed === undefined), 200))")
    browser.get_log("browser")
    browser.get_log("performance")


def test_the_skip_link(reader: Reader) -> None:
    from selenium.webdriver.common.keys import Keys

    reader.opens()
    reader.finds("body").send_keys(Keys.TAB)
    assert reader.asks("document.activeElement.className") == "skip"
    reader.browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert reader.asks("document.activeElement.id") == "content"


@pytest.mark.parametrize("path", ["index.html", ENTRY])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(reader: Reader, path: str, scheme: str) -> None:
    reader.opens(path, scheme)
    reader.asks("document.querySelectorAll('details').forEach(one => { one.open = true })")
    found = reader.asks(
        """(() => {
        const rgb = (text) => text.match(/[0-9.]+/g).map(Number);
        const light = (text) => rgb(text).slice(0, 3).map((one) => one / 255)
          .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
          .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
        const behind = (one) => {
          for (let at = one; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if ((rgb(colour)[3] ?? 1) > 0) return colour;
          }
          return null;
        };
        const found = [];
        for (const one of document.body.querySelectorAll("*")) {
          const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
          if (!own || !one.checkVisibility() || one.closest("title, script, style")) continue;
          const style = getComputedStyle(one);
          const ink = light(one.namespaceURI.endsWith("svg") ? style.fill : style.color);
          const paper = light(behind(one));
          found.push([(Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05), one.outerHTML.slice(0, 100)]);
        }
        return found;
        })()"""
    )
    assert len(found) > 50
    assert [one for one in found if one[0] < 4.5] == []


@pytest.mark.parametrize("path", ["index.html", ENTRY])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_fault(reader: Reader, path: str, scheme: str, width: int) -> None:
    found = importlib.util.find_spec("axe_core_python")
    if found is None or found.origin is None:
        pytest.skip("axe-core-python is not installed (pip install -e '.[dev]')")
    reader.opens(path, scheme, width)
    reader.asks("document.querySelectorAll('details').forEach(one => { one.open = true })")
    reader.browser.execute_script((Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    result = reader.browser.execute_async_script("axe.run(document, {}).then(arguments[arguments.length - 1])")
    assert len(result["passes"]) > 30
    assert [(one["id"], one["nodes"][0]["html"]) for one in result["violations"]] == []


def test_colours_of_the_style_sheet_are_those_that_curves_are_made_for() -> None:
    from llmsched_gym.leaderboard.page.colours import DARK, LIGHT
    from llmsched_gym.leaderboard.page.document import asset

    assert re.search(r"--page: light-dark\((#\w+), (#\w+)\)", asset("page.css")).groups() == (LIGHT, DARK)  # pyright: ignore[reportOptionalMemberAccess]
