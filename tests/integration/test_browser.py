"""Reports and the board in a real browser: what it draws, what it says, and that it asks nobody else."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Launch
from tests.support import records

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

A, B, C = (f"20261121-0{hour}0000-bge-m3-unified-{hour * 4}" for hour in "789")


class Page:
    """A browser's window, and what went over its wire."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1280, dark: bool = False) -> None:
        """Open a page in a window of this width, for a reader who likes it light or dark."""
        phone = width < 500
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get(url)

    def __call__(self, script: str) -> Any:
        """The value of an expression."""
        return self.driver.execute_script(f"return {script}")

    def wait(self, script: str, seconds: float = 15) -> Any:
        """The value of an expression as soon as it is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := self(script):
                return found
            time.sleep(0.1)
        raise AssertionError(f"never true: {script}")

    def said(self) -> list[str]:
        """What stands in the console: errors, warnings, and what the policy has refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked(self) -> set[str]:
        """Every address that was asked for."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [each["params"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        return {each["request"]["url"] for each in sent}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser; tests/support/browser.sh brings one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    folders = os.pathsep.join([os.environ["PATH"], os.environ.get("CHROMEWEBDRIVER", "")])
    control = shutil.which("chromedriver", path=folders)
    if program is None or control is None:
        reason = "no Chromium with its driver; tests/support/browser.sh install brings them"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for each in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(each)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(control))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any) -> Page:
    """The browser's window, with nothing left of the test before."""
    browser.get("about:blank")
    for origin in ("file://", "http://127.0.0.1"):
        clear = {"origin": origin, "storageTypes": "local_storage"}
        browser.execute_cdp_cmd("Storage.clearDataForOrigin", clear)
    browser.get_log("browser")
    browser.get_log("performance")
    return Page(browser)


@pytest.fixture
def parent(workspace: Path) -> Path:
    """Three runs: done, done faster, and failed with an ugly message."""
    folder = workspace / "runs"
    records.make(folder, A)
    records.make(folder, B, pace=0.1, parameters=(("learning_rate", "0.01"),))
    failed = records.make(folder, C, steps=60, ended=1, log=f"{records.HOSTILE}\n")
    records.fail(failed)
    return folder


@pytest.fixture
def report(launch: Launch, parent: Path) -> Callable[..., str]:
    """Write the page of runs; returns its address."""

    def write(*names: str) -> str:
        done = launch("runs", "report", *names, "-o", "report.html", "--force")
        assert done.code == 0, done.err
        return (parent.parent / "report.html").as_uri()

    return write


#: How many points each line of a chart has, as they are drawn and not as they were sent.
POINTS = """[...document.querySelectorAll('[data-chart="{}"] .scatterlayer .js-line')]
  .map((line) => (line.getAttribute('d') || '').split(/[ML]/).length - 1)"""

CHARTS = "[...document.querySelectorAll('[data-chart]')].map((each) => each.dataset.chart)"

GROUND = "getComputedStyle(document.body).backgroundColor"

#: Wider than the window: what makes a reader push a page to and fro.
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def test_a_report_draws_everything_by_itself(page: Page, report: Callable[..., str]) -> None:
    url = report(A)
    page.open(url)
    page.wait("document.querySelectorAll('.js-line').length >= 6")
    assert page(CHARTS) == ["loss", "learning_rate", "grad_norm", "speed", "tokens", "memory"]
    assert [count > 80 for count in page(POINTS.format("grad_norm"))] == [True]
    assert len(page(POINTS.format("loss"))) == 2  # as it was logged, and smoothed
    assert "100" in page("document.querySelector('[data-chart=loss] .plot').getAttribute('aria-label')")
    # the curve as a table, for those who want numbers
    page("document.querySelector('[data-chart=loss] details').open = true")
    assert page.wait("document.querySelectorAll('[data-chart=loss] table tr').length") == 11
    assert page.said() == []
    assert page.asked() <= {url, "data:,"}


def test_rewards_are_drawn_beside_each_other(page: Page, report: Callable[..., str], parent: Path) -> None:
    file = parent / A / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["event"] == "step" and "loss" in line:
            share = line["step"] * 7 % 11  # rough: of a straight line only the ends are drawn
            line |= {
                "reward": 2 * share,
                "rewards/exact/mean": share,
                "rewards/format/mean": share,
                "kl": share,
            }
            line["completions/mean_length"] = 200 + line["step"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page.open(report(A))
    page.wait("document.querySelectorAll('.js-line').length >= 11")
    assert page(CHARTS)[:4] == ["loss", "reward", "kl", "answers"]
    legend = page(
        "[...document.querySelectorAll('[data-chart=reward] .legendtext')].map((e) => e.textContent)"
    )
    assert legend == ["reward", "exact", "format"]
    assert [count > 40 for count in page(POINTS.format("reward"))] == [True] * 3
    assert page.said() == []


def test_three_runs_lie_over_each_other(page: Page, report: Callable[..., str]) -> None:
    page.open(report(A, B, C))
    page.wait("document.querySelectorAll('.js-line').length > 12")
    assert len(page(POINTS.format("grad_norm"))) == 3
    legend = page("[...document.querySelectorAll('[data-chart=loss] .legendtext')].map((e) => e.textContent)")
    assert legend == ["A", "B", "C"]
    colours = page("[...document.querySelectorAll('[data-chart=speed] .js-line')].map((e) => e.style.stroke)")
    assert len(set(colours)) == 3
    assert page("document.body.innerText").count("★") >= 1
    assert page.said() == []


def test_what_a_run_printed_runs_nowhere(page: Page, report: Callable[..., str]) -> None:
    page.open(report(C))
    page.wait("document.querySelectorAll('.js-line').length >= 6")
    assert "taken" not in page("document.title")
    assert page("document.images.length") == 0
    assert records.HOSTILE in page("document.querySelector('.failure').textContent")
    assert records.HOSTILE in page("document.querySelector('[data-log]').textContent")
    assert page.said() == []
    assert not [url for url in page.asked() if url.startswith("http")]
    # and were it not escaped, the policy would refuse it
    page("document.body.insertAdjacentHTML('beforeend', '<img src=\"http://example.invalid/x\">')")
    page("document.body.append(Object.assign(document.createElement('script'), {text: 'document.title=1'}))")
    time.sleep(0.3)
    assert page("document.title") != "1"
    refused = page.said()
    assert len(refused) >= 2
    assert all("Content Security Policy" in line for line in refused)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_light_and_dark(page: Page, report: Callable[..., str], dark: bool) -> None:
    page.open(report(A), dark=dark)
    page.wait("document.querySelectorAll('.js-line').length >= 6")
    grounds = {False: "rgb(245, 246, 248)", True: "rgb(17, 20, 24)"}
    line = "document.querySelector('[data-chart=speed] .js-line').style.stroke"
    assert page(GROUND) == grounds[dark]
    before = page(line)
    for _ in range(2):  # system, light, dark: one of the next two is the other one
        page("document.querySelector('button.theme').click()")
        if page(GROUND) == grounds[not dark]:
            break
    assert page(GROUND) == grounds[not dark]
    page.wait(f"{line} !== {json.dumps(before)}")  # the curves follow
    assert page.said() == []


def test_a_phone_has_nothing_to_push_sideways(page: Page, report: Callable[..., str]) -> None:
    for names in ((A,), (A, B, C), (C,)):
        page.open(report(*names), width=360)
        page.wait("document.querySelectorAll('.js-line').length >= 6")
        page("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert page(OVERFLOW) == 0, names


def test_a_printed_page_has_everything(page: Page, report: Callable[..., str]) -> None:
    page.open(report(A), dark=True)
    page.wait("document.querySelectorAll('.js-line').length >= 6")
    page("dispatchEvent(new Event('beforeprint'))")
    assert page(GROUND) == "rgb(245, 246, 248)"
    assert page("[...document.querySelectorAll('details')].every((each) => each.open)")
    page("dispatchEvent(new Event('afterprint'))")
    assert page(GROUND) == "rgb(17, 20, 24)"
    assert page("document.querySelectorAll('.fold[open]').length") == 0


# ------------------------------------------------------------------------------------------------ the board
@pytest.fixture
def board(parent: Path) -> Iterator[str]:
    """A board of the workspace; its address with the token."""
    command = [sys.executable, "-m", "launcher", "runs", "board"]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = subprocess.Popen(command, cwd=parent.parent, **streams)
    assert started.stdout is not None
    yield started.stdout.readline().strip()
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=10)
    assert started.returncode == 0
    assert out == ""
    assert "token" not in err  # no line of a request, and no traceback
    assert err.splitlines()[-1] == "the board has ended; runs go on"


def test_the_board_is_live(page: Page, board: str, parent: Path) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{40,}", board)
    home = board.partition("?")[0]
    live = records.make(parent, "20261121-100000-bge-m3-unified-dddd", steps=20, ended=None)
    page.open(board)
    page.wait("document.querySelectorAll('#runs tr').length === 4")
    assert page("location.href") == home  # the token has left the address
    states = "[...document.querySelectorAll('#runs .state')].map((each) => each.textContent)"
    assert page(states) == ["… not ended", "✗ failed", "✓ done", "✓ done"]
    # a new step and a new run appear by themselves
    records.write_events(live, records.events(30, first=21))
    records.make(parent, "20261121-110000-encode-eeee", recipe="encode", world_size=0)
    page.wait("document.querySelectorAll('#runs tr').length === 5")
    page.wait("document.querySelectorAll('#runs .progress')[1].textContent === '30 of 100'")

    page.open(f"{home}run/{live.name}")
    page.wait("document.querySelectorAll('.js-line').length >= 6")
    last = "document.querySelector('[data-chart=loss] .plot').data[0].x.at(-1)"
    assert page(last) == 30
    drawn = page(POINTS.format("grad_norm"))[0]
    records.write_events(live, records.events(60, first=31))
    with (live / "log.txt").open("a") as log:
        log.write(f"{records.HOSTILE}\n")
    page.wait(f"{last} === 60")
    page.wait(f"({POINTS.format('grad_norm')})[0] > {drawn}")
    page.wait("document.querySelector('[data-tile=steps] .value').textContent === '60'")
    page.wait("document.querySelector('[data-log]').textContent.includes('onerror')")
    assert page("document.title").startswith("(60 %)")
    # its end is all over the page
    records.fail(live, "no more")
    records.end(live, exit_code=1)
    page.wait("document.querySelector('.failure')?.textContent.includes('no more')")
    assert page.said() == []
    assert {url.startswith((home, "data:,")) for url in page.asked()} == {True}


def test_the_board_on_a_phone(page: Page, board: str, parent: Path) -> None:
    page.open(board, width=360, dark=True)
    page.wait("document.querySelectorAll('#runs tr').length === 3")
    assert page(OVERFLOW) == 0
    assert page(GROUND) == "rgb(17, 20, 24)"
    page.open(f"{board.partition('?')[0]}run/{C}", width=360)
    page.wait("document.querySelectorAll('.js-line').length >= 6")
    assert page(OVERFLOW) == 0
    assert page.said() == []


def test_the_board_is_for_who_has_the_address(page: Page, board: str) -> None:
    home = board.partition("?")[0]
    page.driver.delete_all_cookies()
    for url in (home, f"{home}run/{A}", f"{home}?token=wrong"):
        page.open(url)
        assert "open the address that" in page("document.body.innerText")
    # another name for this machine is a foreign page's trick
    page.open(board.replace("127.0.0.1", "localhost"))
    page.wait("document.querySelectorAll('#runs tr').length === 3")
