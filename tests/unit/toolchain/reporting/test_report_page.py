"""The page and the Markdown: the same numbers, hostile names as they stand, nothing loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

from edgefusion.runtime.errors import InputError
from edgefusion.toolchain.profiling.profile import Profile, profile_program
from edgefusion.toolchain.reporting.documents import latency_document
from edgefusion.toolchain.reporting.page.document import Findings, report_document
from edgefusion.toolchain.reporting.page.html import html_report, image_uri, script_json
from edgefusion.toolchain.reporting.page.markdown import markdown_report
from edgefusion.toolchain.reporting.page.verification import read_verification
from tests.unit.toolchain.reporting.conftest import VERIFICATION, Reported
from tests.unit.toolchain.reporting.report_pages import Page, read_page

HOSTILE = "a|b</script><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;`{{7*7}}"


@pytest.fixture(scope="module")
def page(reported: dict[str, Reported]) -> Page:
    return read_page(html_report([reported["pipelined"].document], "Report"))


def numbers(page: Page, table: str, column: int) -> list[float]:
    return [float(row[column].value or "nan") for row in page.tables[table]]


def test_tables_hold_the_numbers_of_simulate(page: Page, pipelined: Reported) -> None:
    document = latency_document(pipelined.profile)
    (component,) = document["components"].values()
    keys = (
        *("evaluations", "latency_ms", "", "", "bound_ms", "", "fused_bound_ms"),
        *("dma_busy_ms", "tensor_busy_ms"),
    )
    for column, key in enumerate(keys, start=1):
        if key:
            assert numbers(page, "components", column) == [component[key]]
    ops = sorted(document["ops"], key=lambda op: -op["image_latency_ms"])
    columns = {3: "image_latency_ms", 4: "share_percent", 6: "ratio", 8: "bound_ms", 11: "macs"}
    for column, key in columns.items():
        assert numbers(page, "ops", column) == [op[key] for op in ops], key
    assert [row[7].text for row in page.tables["ops"]] == [op["limited_by"] for op in ops]


def test_what_is_shown_is_the_number_behind_it(page: Page) -> None:
    for row in page.tables["ops"]:
        assert float(row[3].text.replace(",", "")) == pytest.approx(float(row[3].value), abs=5e-4)
        assert float(row[4].text) == pytest.approx(float(row[4].value), abs=0.05)
    for row in page.tables["what_ifs"]:
        assert float(row[1].text) == pytest.approx(float(row[1].value), abs=5e-4)


def test_the_data_are_the_document(page: Page, pipelined: Reported) -> None:
    assert page.data["bundles"][0]["document"] == json.loads(json.dumps(pipelined.document))
    total = sum(numbers(page, "causes", 3))
    assert total == pipelined.document["traffic"]["total_bytes"]
    causes = page.data["bundles"][0]["charts"]["causes"]["data"]
    assert sum(sum(trace["x"]) for trace in causes) == pytest.approx(total / 1e6)


def test_nothing_is_loaded(page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            link = attributes.get(name) or ""
            assert ":" not in link.removeprefix("data:")
        assert tag not in ("iframe", "object", "embed", "base", "form")
    assert sum(get_plotlyjs()[:2000] in text for text in page.scripts) == 1, "Plotly is in it once"
    style = (Path(html_report.__code__.co_filename).parent / "parts" / "style.css").read_text()
    assert "url(" not in style
    assert "@import" not in style


def hostile(profile: Profile) -> Profile:
    """The profile of a program in which everything that has a name is called ``HOSTILE``."""
    (component,) = profile.components
    program = component.program
    renamed = replace(
        program,
        ops=tuple(
            replace(op, name=f"{HOSTILE}{i}", scope=HOSTILE, origin=(HOSTILE,), tile=HOSTILE)
            for i, op in enumerate(program.ops)
        ),
        tensors=tuple(replace(t, name=f"{HOSTILE}{i}") for i, t in enumerate(program.tensors)),
    )
    timed = profile_program(renamed, profile.scenario, 1)
    return replace(profile, label=HOSTILE, components=(timed,))


def test_hostile_names_stay_names(serial: Reported) -> None:
    document = report_document(hostile(serial.profile), Findings(remarks={"x": [HOSTILE]}))
    page = read_page(html_report([document, document], HOSTILE, [(HOSTILE, "data:image/png;,")]))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 3
    assert tags.count("img") == 1, "the picture alone"
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert page.tables["ops"][0][1].text.replace("unet.", "").count("{{7*7}}") >= 1
    figures = page.data["bundles"][0]["charts"]
    texts = [text for figure in figures.values() for text in strings(figure)]
    assert not any("<img" in text or "<script" in text for text in texts)
    assert any("&lt;img" in text for text in texts)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from strings(each)


def test_data_may_stand_in_a_script() -> None:
    text = script_json({"</script>": "<!--&"})
    assert not re.search("[<>&]", text)
    assert json.loads(text) == {"</script>": "<!--&"}


def test_side_by_side_has_a_page_for_each(pipelined: Reported, serial: Reported) -> None:
    page = read_page(html_report([pipelined.document, serial.document], "both"))
    articles = [attributes["id"] for tag, attributes in page.elements if tag == "article"]
    assert articles == ["b0", "b1"]
    totals = [each.profile.latency.total_ms for each in (pipelined, serial)]
    assert [float(row[3].value or 0) for row in page.tables["compared"]] == totals


def test_verification_and_pictures_are_shown(
    pipelined: Reported, verification: Path, tmp_path: Path
) -> None:
    found = replace(pipelined.findings, verification=read_verification(verification))
    document = report_document(pipelined.profile, found)
    Image.new("RGB", (2, 2), "red").save(tmp_path / "red.png")
    uri = image_uri(tmp_path / "red.png")
    assert uri.startswith("data:image/png;base64,")
    page = read_page(html_report([document], "verified", [("red.png", uri)]))
    assert [row[4].value for row in page.tables["values"]] == ["47.25", "27.0"]
    assert page.tables["values"][0][0].text == "a <b>fox</b>"
    assert [row[-1].text for row in page.tables["values"]] == ["yes", "not gated"]
    worst = [row[3].value for row in page.tables["layers"]]
    assert worst == ["44.5", "61.0", ""], "worst first, those without an error last"
    assert ("img", {"src": uri, "alt": "red.png"}) in page.elements


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1", "is no verification"),
        ("{}", "gates is missing"),
        (VERIFICATION.replace("3,", "2,", 1), "schema version 2"),
        (VERIFICATION.replace("47.25", '"much"'), "values.0.bundle_db"),
        ("[]", "is no verification"),
    ],
)
def test_another_verification_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(InputError, match=told):
        read_verification(tmp_path / "v.json")


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(InputError, match="expected an image"):
        image_uri(tmp_path / "a.png")
    with pytest.raises(InputError, match="is no file"):
        image_uri(tmp_path / "missing.png")


def tables_of(markdown: str) -> list[list[list[str]]]:
    """Tables as GitHub splits them: cells by bars that no backslash stands before."""
    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("| ")]
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block] for block in blocks]


def test_markdown_has_the_same_numbers(pipelined: Reported) -> None:
    text = markdown_report([pipelined.document], "Report")
    components, ops, causes, what_ifs = tables_of(text)
    first = pipelined.profile.costliest()[0]
    assert ops[2][3].strip() == f"{first.image_ps / 1e9:,.3f}"
    assert ops[2][1].strip() == f"`{first.path}`"
    assert components[2][2].strip() == f"{pipelined.profile.latency.total_ms:,.3f}"
    total = pipelined.document["traffic"]["total_bytes"]
    assert causes[-1][1].strip() == f"{total / 1e6:,.2f}"
    assert len(what_ifs) - 2 == len(pipelined.document["what_ifs"])
    assert pipelined.document["verdict"].split(".")[0] in text


def test_hostile_names_break_no_markdown(serial: Reported) -> None:
    document = report_document(hostile(serial.profile), Findings())
    text = markdown_report([document, document], HOSTILE)
    assert all(len({len(row) for row in table}) == 1 for table in tables_of(text))
    outside = re.sub(r"(`+)(.+?)(?<!`)\1(?!`)", "", text)
    assert not re.search(r"<(img|script)", outside)


def test_markdown_of_several_compares_first(pipelined: Reported, serial: Reported) -> None:
    text = markdown_report([pipelined.document, serial.document], "both")
    compared = tables_of(text)[0]
    assert [row[0].strip() for row in compared[2:]] == ["`pipelined.npub`", "`serial.npub`"]
    assert text.count("<details>") == text.count("</details>") == 2
