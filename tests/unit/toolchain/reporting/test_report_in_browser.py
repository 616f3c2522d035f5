"""The page in a browser: it draws, zooms, sorts and filters; it loads nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from edgefusion.toolchain.reporting.page.document import report_document
from edgefusion.toolchain.reporting.page.html import html_report
from edgefusion.toolchain.reporting.page.verification import read_verification
from tests.unit.toolchain.reporting.conftest import Reported

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHARTS = {
    *("components", "limits", "engines", "what_ifs", "causes", "traffic_ops", "traffic_tensors"),
    *("roofline", "bounds", "layers"),
}
MILLISECONDS = 120_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of the system; without one the tests are skipped, but fail where CI is true."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        told = f"no browser: none of {', '.join(NAMES)} is installed"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    with sync_playwright() as play:
        launched = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@dataclass
class Opened:
    """A page, and whatever it complained of or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def file(
    reported: dict[str, Reported], verification: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A report of two bundles, the first with everything in it."""
    first, second = reported["pipelined"], reported["serial"]
    findings = replace(first.findings, verification=read_verification(verification))
    documents = [report_document(first.profile, findings), second.document]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html_report(documents, "both"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def opened(browser: Browser, file: Path) -> Iterator[Opened]:
    """The page on a desktop, all of it drawn. Tests use it one after another."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(MILLISECONDS)
    found = Opened(page)
    page.on("console", lambda m: found.complaints.append(m.text) if m.type != "log" else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("request", lambda request: found.asked.append(request.url))
    page.goto(file.as_uri())
    draw_all(page)
    yield found
    page.close()


def draw_all(page: Page) -> None:
    """Have what would be printed drawn: all charts that are not hidden."""
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function("document.querySelectorAll('.bundle.open .timeline .bars').length > 0")


def test_all_charts_are_drawn(opened: Opened) -> None:
    page = opened.page
    drawn = ".bundle.open :is(.chart, .timeline).js-plotly-plot"
    names = page.locator(drawn).evaluate_all("all => all.map(e => e.dataset.chart || 'timeline')")
    assert sorted(names) == sorted(CHARTS | {"timeline"})
    marks = page.evaluate(
        f"[...document.querySelectorAll('{drawn}')].map("
        "e => e.querySelectorAll('path.point, .point path, path.js-line').length)"
    )
    assert all(marks), marks


def test_nothing_is_complained_of_and_nothing_loaded(opened: Opened, file: Path) -> None:
    assert opened.complaints == []
    assert {url for url in opened.asked if not url.startswith("data:")} == {file.as_uri()}


def test_the_timeline_zooms_and_shows_the_whole_again(opened: Opened) -> None:
    section = opened.page.locator(".bundle.open section:has(.timeline)")
    timeline = section.locator(".timeline")

    def span() -> float:
        return float(timeline.get_attribute("data-to") or 0) - float(
            timeline.get_attribute("data-from") or 0
        )

    whole = span()
    section.get_by_label("Zoom in").click()
    assert span() == pytest.approx(whole / 2)
    area = timeline.locator(".nsewdrag").first.bounding_box()
    assert area is not None
    middle = area["y"] + area["height"] / 2
    opened.page.mouse.move(area["x"] + area["width"] * 0.4, middle)
    opened.page.mouse.down()
    opened.page.mouse.move(area["x"] + area["width"] * 0.6, middle, steps=4)
    opened.page.mouse.up()
    opened.page.wait_for_function(
        "before => { const t = document.querySelector('.bundle.open .timeline').dataset;"
        " return t.to - t.from < before; }",
        arg=0.3 * whole,
    )
    assert span() == pytest.approx(0.1 * whole, rel=0.1)
    assert "of" in section.locator(".state").inner_text()
    section.get_by_role("button", name="whole").click()
    assert span() == pytest.approx(whole)


def test_the_timeline_tells_an_op_under_the_pointer(opened: Opened, pipelined: Reported) -> None:
    timeline = opened.page.locator(".bundle.open .timeline")
    timeline.scroll_into_view_if_needed()
    bars = timeline.locator(".bars path")
    widths = bars.evaluate_all("all => all.map(each => each.getBoundingClientRect().width)")
    bar = bars.nth(widths.index(max(widths))).bounding_box()
    assert bar is not None
    opened.page.mouse.move(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    told = timeline.locator(".hoverlayer .hovertext")
    told.wait_for()
    text = told.text_content() or ""
    assert any(op.module in text for op in pipelined.profile.ops), text
    opened.page.mouse.move(0, 0)


def test_the_timeline_shows_a_component_or_the_image(opened: Opened) -> None:
    section = opened.page.locator(".bundle.open section:has(.timeline)")
    pick = section.locator(".pick")
    assert pick.locator("option").count() == 2
    section.get_by_label("Zoom in").click()
    pick.select_option("all")
    assert section.locator(".timeline").get_attribute("data-from") == "0"


def test_tables_sort(opened: Opened) -> None:
    table = opened.page.locator(".bundle.open table[data-table=ops]")
    values = "rows => rows.map(row => Number(row.cells[3].dataset.v))"
    head = table.get_by_role("button", name="an image ms")
    head.click()
    down = table.locator("tbody tr").evaluate_all(values)
    assert down == sorted(down, reverse=True)
    head.click()
    up = table.locator("tbody tr").evaluate_all(values)
    assert up == sorted(up)
    assert up != down
    table.get_by_role("button", name="kind").click()
    kinds = table.locator("tbody tr").evaluate_all("rows => rows.map(r => r.cells[2].innerText)")
    assert kinds == sorted(kinds)


def test_tables_filter(opened: Opened, pipelined: Reported) -> None:
    section = opened.page.locator(".bundle.open section:has(table[data-table=ops])")
    rows = section.locator("tbody tr:visible")
    ops = pipelined.document["latency"]["ops"]
    section.locator(".filter").fill("attention")
    wanted = sum("attention" in " ".join(map(str, op.values())) for op in ops)
    assert rows.count() == wanted < len(ops)
    assert f"{wanted} of {len(ops)}" in section.locator(".count").inner_text()
    section.locator(".filter").fill("")
    section.locator(".by-engine").select_option("host")
    assert rows.count() == sum(op["limited_by"] == "host" for op in ops)
    section.locator(".by-engine").select_option("")
    assert rows.count() == min(len(ops), 20)


def test_the_other_bundle_is_a_click_away(opened: Opened) -> None:
    opened.page.get_by_role("tab", name="serial.npub").click()
    assert opened.page.locator("#b1").is_visible()
    assert not opened.page.locator("#b0").is_visible()
    draw_all(opened.page)
    assert "serial" in opened.page.locator("#b1 .facts").inner_text()
    opened.page.get_by_role("tab", name="pipelined.npub").click()
    assert opened.page.locator("#b0").is_visible()
    assert opened.complaints == []


def test_a_narrow_page_is_as_wide_as_the_screen(browser: Browser, file: Path) -> None:
    page = browser.new_page(viewport={"width": 420, "height": 900}, color_scheme="dark")
    page.set_default_timeout(MILLISECONDS)
    page.goto(file.as_uri())
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 420
    clipped = page.evaluate(
        "[...document.querySelectorAll('.bundle.open .chart .ytick text')].filter(text =>"
        " text.getBoundingClientRect().left < text.closest('.chart').getBoundingClientRect().left"
        " - 1).map(text => text.textContent)"
    )
    assert clipped == []
    page.close()
