"""A report as GitHub's Markdown, for pull requests: the page's numbers, its first rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgefusion.toolchain.reporting.page.document import comparison

TOP = 10
_LONGEST_TICKS = re.compile(r"`+")


def markdown_report(documents: Sequence[Mapping[str, Any]], title: str) -> str:
    """One document, or several side by side with their sections folded."""
    parts = [f"# {escaped(title)}"]
    if len(documents) > 1:
        parts.append(_comparison(documents))
        parts += [
            f"<details><summary>{escaped(document['made_from']['bundle'])}</summary>\n\n"
            f"{_document(document)}\n\n</details>"
            for document in documents
        ]
    else:
        parts.append(_document(documents[0]))
    return "\n\n".join(parts) + "\n"


def escaped(text: object) -> str:
    """``text`` as it stands, in a line or a cell: nothing in it is markup."""
    plain = " ".join(str(text).split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#@!])", r"\\\1", plain)


def code(text: object) -> str:
    """``text`` as code in a table's cell, where a bar would end the cell even within code."""
    plain = " ".join(str(text).split()).replace("|", "\\|")
    ticks = "`" * (max(map(len, _LONGEST_TICKS.findall(plain)), default=0) + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{ticks}{pad}{plain}{pad}{ticks}" if plain else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Heads that begin with ``>`` are of numbers, to the right."""
    names = [head.removeprefix(">") for head in heads]
    rules = ["--:" if head.startswith(">") else "---" for head in heads]
    lines = [names, rules, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _comparison(documents: Sequence[Mapping[str, Any]]) -> str:
    heads = ("bundle", "target", "schedule", ">steps", ">latency ms", ">± %")
    return _table(
        (*heads, ">bound ms", ">DRAM MB", ">peak SRAM MB"),
        [
            (
                code(row["bundle"]),
                escaped(row["target"]),
                row["schedule"],
                str(row["steps"]),
                f"{row['total_ms']:,.3f}",
                f"{row['total_change_percent']:+.1f}",
                f"{row['bound_ms']:,.3f}",
                f"{row['image_bytes'] / 1e6:,.2f}",
                f"{row['peak_sram_bytes'] / 1e6:,.2f}",
            )
            for row in comparison(documents)
        ],
    )


def _document(document: Mapping[str, Any]) -> str:
    made = document["made_from"]
    changes = ", ".join(f"{key} = {value}" for key, value in made["changes"].items())
    about = (
        f"{code(made['bundle'])} from {escaped(made['source_name'])}: {escaped(made['target'])}, "
        f"{made['schedule']}, {_steps(made['steps'])}, edgefusion {made['tool_version']}, "
        f"cost model {made['cost_model_version']}"
        + (f"; timed with {escaped(changes)}" if changes else "")
    )
    parts = [f"**{escaped(document['verdict'])}**", about, _components(document)]
    parts += ["Costliest ops of an image:", _ops(document), "DMA traffic of an image:"]
    parts.append(_causes(document))
    if document["what_ifs"]:
        parts += ["What would help:", _what_ifs(document)]
    if document["verification"]:
        parts.append(f"Values: {escaped(document['verification']['gates']['summary'])}")
    return "\n\n".join(parts)


def _components(document: Mapping[str, Any]) -> str:
    total = document["latency"]["pipeline"]["total_ms"]
    peaks = {row["component"]: row["peak_bytes"] for row in document["sram"]}
    heads = ("component", ">runs", ">a run ms", ">all runs ms", ">%", ">× bound", ">DMA ms")
    return _table(
        (*heads, ">tensor ms", ">vector ms", ">peak SRAM MB"),
        [
            (
                name,
                str(entry["evaluations"]),
                f"{entry['latency_ms']:,.3f}",
                f"{entry['evaluations'] * entry['latency_ms']:,.3f}",
                _percent(entry["evaluations"] * entry["latency_ms"], total),
                f"{entry['latency_ms'] / entry['bound_ms']:.2f}" if entry["bound_ms"] else "",
                f"{entry['dma_busy_ms']:,.3f}",
                f"{entry['tensor_busy_ms']:,.3f}",
                f"{entry['vector_busy_ms']:,.3f}",
                f"{peaks[name] / 1e6:,.2f}",
            )
            for name, entry in document["latency"]["components"].items()
        ],
    )


def _ops(document: Mapping[str, Any]) -> str:
    rows = []
    for row in document["ops"][:TOP]:
        op = document["latency"]["ops"][row["index"]]
        rows.append(
            (
                str(row["rank"]),
                code(row["path"]),
                op["kind"],
                f"{op['image_latency_ms']:,.3f}",
                f"{op['share_percent']:.1f}",
                f"{row['cumulative_percent']:.1f}",
                "" if op["ratio"] is None else f"{op['ratio']:.2f}",
                op["limited_by"],
                f"{row['image_bytes'] / 1e6:,.2f}",
            )
        )
    heads = (">#", "module", "kind", ">an image ms", ">%", ">sum %", ">× bound", "limited by")
    return _table((*heads, ">DRAM MB"), rows)


def _causes(document: Mapping[str, Any]) -> str:
    causes = {name: n for name, n in document["traffic"]["by_cause"].items() if n}
    total = document["traffic"]["total_bytes"]
    rows = [(name, f"{n / 1e6:,.2f}", _percent(n, total)) for name, n in causes.items()]
    return _table(("cause", ">MB", ">%"), [*rows, ("all", f"{total / 1e6:,.2f}", "100.0")])


def _what_ifs(document: Mapping[str, Any]) -> str:
    return _table(
        ("with", ">an image ms", ">saves ms", ">saves %"),
        [
            (
                escaped(row["change"]),
                f"{row['total_ms']:,.3f}",
                f"{row['saved_ms']:,.3f}",
                f"{row['saved_percent']:.1f}",
            )
            for row in document["what_ifs"]
        ],
    )


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else ""


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"
