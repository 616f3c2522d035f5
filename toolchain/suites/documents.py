"""A suite's result as JSON, Markdown and JUnit XML: views of one document."""

from __future__ import annotations

import re
from typing import Any

from edgefusion.runtime.latency import PS_PER_MS
from edgefusion.toolchain.suites.comparison import CaseResult, Status
from edgefusion.toolchain.suites.explanation import percent
from edgefusion.toolchain.suites.running import SuiteResult

SCHEMA_VERSION = 1
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def suite_document(result: SuiteResult) -> dict[str, Any]:
    """What ``--json`` writes: ``counts`` by status, and ``cases`` with their figures, what changed,
    and the explanation's lines."""
    return {
        "schema_version": SCHEMA_VERSION,
        "suite": result.suite.name,
        "counts": {str(status): result.count(status) for status in Status},
        "cases": [case_row(case) for case in result.cases],
    }


def case_row(case: CaseResult) -> dict[str, Any]:
    """One case. Of one without figures, or without a baseline, these are None."""
    figures, baseline = case.figures, case.baseline
    before = baseline.figures if baseline else None
    conditions = figures.conditions if figures else None
    return {
        "case": case.case,
        "status": str(case.status),
        "latency_ms": figures.latency_ps / PS_PER_MS if figures else None,
        "baseline_latency_ms": before.latency_ps / PS_PER_MS if before else None,
        "change_percent": _percent(case),
        "bound_ms": figures.metrics["pipeline"]["bound_ps"] / PS_PER_MS if figures else None,
        "dram_bytes": figures.dram_bytes if figures else None,
        "baseline_dram_bytes": before.dram_bytes if before else None,
        "target": conditions.target if conditions else None,
        "schedule": conditions.schedule if conditions else None,
        "steps": conditions.steps if conditions else None,
        "metrics": figures.flat() if figures else {},
        "changes": [
            {"metric": c.metric, "baseline": c.before, "now": c.after, "allowed": c.allowed}
            for c in case.changes
        ],
        "explanation": list(case.explanation),
    }


def suite_lines(result: SuiteResult) -> list[str]:
    """The explanations of all cases that have one, each under its case's name."""
    lines = []
    for case in result.cases:
        if len(case.explanation) == 1:
            lines.append(f"{case.status} {case.case}: {case.explanation[0]}")
        elif case.explanation:
            lines.append(f"{case.status} {case.case}")
            lines += [f"  {line}" for line in case.explanation]
    return lines


def suite_markdown(result: SuiteResult) -> str:
    """For a pull request: a table, then the explanations in blocks that unfold."""
    lines = [f"# Latency of {result.suite.name}: {result.summary()}", ""]
    lines += ["| case | status | ms | baseline ms | change | DRAM bytes |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    for case in result.cases:
        row = case_row(case)
        moved = ""
        if case.baseline and case.figures and row["change_percent"]:
            moved = percent(case.baseline.figures.latency_ps, case.figures.latency_ps)
        cells = (
            case.case,
            case.status,
            _number(row["latency_ms"], ",.3f"),
            _number(row["baseline_latency_ms"], ",.3f"),
            moved,
            _number(row["dram_bytes"], ",d"),
        )
        lines.append(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |")
    for case in result.cases:
        if case.explanation:
            lines += ["", f"<details><summary>{case.status} {case.case}</summary>", "", "```"]
            lines += [*case.explanation, "```", "", "</details>"]
    return "\n".join(lines) + "\n"


def suite_junit(result: SuiteResult, *, allow_new: bool = False) -> str:
    """JUnit XML, a test a case: failures are what a check fails for, errors what kept a case from
    being timed. It carries no times, for the same figures give the same file."""
    from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

    failing = result.failing(allow_new=allow_new)
    suite = TestSuite(result.suite.name)
    for case in result.cases:
        test = TestCase(_xml(case.case), f"edgefusion.{result.suite.name}")
        if case in failing:
            kind = Error if case.error is not None else Failure
            first = case.explanation[0] if case.explanation else ""
            entry = kind(_xml(f"{case.status}: {first}"), str(case.status))
            entry.text = _xml("\n".join(case.explanation))
            test.result = [entry]
        elif case.explanation:
            test.system_out = _xml("\n".join(case.explanation))
        suite.add_testcase(test)
    xml = JUnitXml(f"edgefusion bench {result.suite.name}")
    xml.add_testsuite(suite)
    text: str = xml.tostring().decode("utf-8")  # type: ignore[no-untyped-call]
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _percent(case: CaseResult) -> float | None:
    if case.figures is None or case.baseline is None:
        return None
    before = case.baseline.figures.latency_ps
    return 100 * (case.figures.latency_ps - before) / before if before else None


def _number(value: float | int | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _xml(text: str) -> str:
    """``text`` without the characters that XML cannot hold."""
    return _NOT_XML.sub("?", text)
