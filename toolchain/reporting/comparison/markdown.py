"""A comparison as Markdown, for pull requests: views of its JSON document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgefusion.toolchain.reporting.comparison.compare import Comparison
from edgefusion.toolchain.reporting.comparison.document import (
    MB,
    diff_document,
    headline,
    sentences,
)

_SHOWN_OPS = 10


def markdown(comparison: Comparison) -> str:
    """For a pull request: the total, what it comes from, components, and the first ops."""
    a, b = comparison.a, comparison.b
    lines = [f"# {b.label} against {a.label}", ""]
    if comparison.same_figures:
        return "\n".join([*lines, *(f"- {text}" for text in sentences(comparison)), ""])
    document = diff_document(comparison)
    lines += [f"**{headline(comparison)}**", ""]
    lines += [f"- {c.what}: {c.before} → {c.after}" for c in comparison.changes]
    rows: list[tuple[str, Callable[[dict[str, Any]], str]]]
    rows = [
        ("comes from", lambda row: row["title"]),
        ("ops", lambda row: str(row["ops"] or "")),
        ("ms", lambda row: f"{row['latency_change_ms']:+,.3f}"),
        ("% of before", lambda row: f"{row['share_percent']:+.1f}"),
        ("MB", lambda row: f"{row['dram_change_bytes'] / MB:+,.2f}"),
    ]
    lines += ["", *_table(rows, document["attribution"]), ""]
    named = [{"component": name, **row} for name, row in document["components"].items()]
    lines += [*_table([("component", lambda row: row["component"]), *_MOVED], named), ""]
    ops = document["ops"][:_SHOWN_OPS]
    if ops:
        rows = [
            ("op", lambda row: f"`{row['component']}.{row['module']}`"),
            *_MOVED,
            ("why", lambda row: f"{row['reason']}{_detail(row)}"),
        ]
        count = f"{len(document['ops'])} of {document['op_count']} ops differ"
        lines += [f"{count}; the first {len(ops)}:" if len(ops) > 1 else f"{count}:", ""]
        lines += [*_table(rows, ops), ""]
    return "\n".join(lines)


_MOVED: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
    ("before ms", lambda row: f"{row['latency_before_ms']:,.3f}"),
    ("after ms", lambda row: f"{row['latency_after_ms']:,.3f}"),
    ("change ms", lambda row: f"{row['latency_change_ms']:+,.3f}"),
    ("change MB", lambda row: f"{row['dram_change_bytes'] / MB:+,.2f}"),
]


def _detail(row: dict[str, Any]) -> str:
    told = f" {row['before']} → {row['after']}" if row["before"] or row["after"] else ""
    return f": {row['what']}{told}" if row["what"] else ""


def _table(
    columns: Sequence[tuple[str, Callable[[dict[str, Any]], str]]], rows: Sequence[dict[str, Any]]
) -> Iterator[str]:
    texts = ("comes from", "component", "op", "why")
    yield f"| {' | '.join(title for title, _ in columns)} |"
    yield f"| {' | '.join('---' if title in texts else '---:' for title, _ in columns)} |"
    for row in rows:
        yield f"| {' | '.join(form(row).replace('|', chr(92) + '|') for _, form in columns)} |"
