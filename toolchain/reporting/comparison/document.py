"""What a comparison says, as the JSON document and as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgefusion.runtime.latency import PS_PER_MS, total_label
from edgefusion.toolchain.profiling.profile import Profile
from edgefusion.toolchain.reporting.comparison.changes import Reason
from edgefusion.toolchain.reporting.comparison.compare import Comparison, compare
from edgefusion.toolchain.reporting.comparison.parts import OpDifference, Part
from edgefusion.toolchain.reporting.documents import about

SCHEMA_VERSION = 1
MB = 10**6
_LEAST_MS = 0.001


@dataclass(frozen=True, slots=True)
class Share:
    """All parts of one reason and ``what``, summed; ``ops`` is how many are of ops."""

    reason: Reason
    what: str
    before: str
    after: str
    ops: int
    latency_ps: int
    dram_bytes: int
    largest: Part

    @property
    def title(self) -> str:
        """As in ``schedule: other tile``."""
        text = f"{self.reason}: {_SAID.get(self.what, self.what)}"
        return f"{text} {self.before} → {self.after}" if self.before or self.after else text


_SAID = {
    "tile": "other tile",
    "instructions": "other instructions",
    "order": "same instructions",
    "MACs": "other MACs",
    "shapes": "other shapes",
    "types": "other types",
}


def shares(parts: Sequence[Part]) -> list[Share]:
    """What ``parts`` come from, the largest part of the latency first; the sums are theirs."""
    groups: dict[tuple[str, ...], list[Part]] = {}
    for part in parts:
        told = ("", "") if part.module else (part.before, part.after)
        groups.setdefault((part.reason, part.what, *told), []).append(part)
    found = [
        Share(
            Reason(reason),
            what,
            before,
            after,
            sum(1 for part in group if part.module),
            sum(part.latency_ps for part in group),
            sum(part.dram_bytes for part in group),
            max(group, key=lambda part: (abs(part.latency_ps), abs(part.dram_bytes))),
        )
        for (reason, what, before, after), group in groups.items()
    ]
    return sorted(found, key=lambda share: (-abs(share.latency_ps), -abs(share.dram_bytes)))


def diff_document(comparison: Comparison) -> dict[str, Any]:
    """What ``diff --json`` writes. Figures are of an image; ``*_change_ps`` are exact, and those of
    ``attribution`` add up to the one of ``pipeline``."""
    a, b = comparison.a, comparison.b
    total = max(comparison.latency_ps[0], 1)
    return {
        "schema_version": SCHEMA_VERSION,
        "before": about(a),
        "after": about(b),
        "identical": comparison.identical,
        "pipeline": {**_latency(comparison.latency_ps), **_bytes(comparison.dram_bytes)},
        "changes": [
            {"reason": c.reason.value, "what": c.what, "before": c.before, "after": c.after}
            for c in comparison.changes
        ],
        "attribution": [
            {
                "reason": share.reason.value,
                "what": share.what,
                "title": share.title,
                "before": share.before,
                "after": share.after,
                "ops": share.ops,
                "latency_change_ps": share.latency_ps,
                "latency_change_ms": share.latency_ps / PS_PER_MS,
                "share_percent": 100 * share.latency_ps / total,
                "dram_change_bytes": share.dram_bytes,
            }
            for share in shares(comparison.parts)
        ],
        "components": {
            each.name: {
                "evaluations_before": each.evaluations[0],
                "evaluations_after": each.evaluations[1],
                **_latency(each.latency_ps),
                **_bytes(each.dram_bytes),
                "engines": {
                    kind.name.lower(): _pair("busy", pair) for kind, pair in each.busy_ps.items()
                },
                "causes": {cause: _bytes(pair) for cause, pair in each.bytes_by_cause.items()},
            }
            for each in comparison.components
        },
        "engines": {name: _pair("busy", pair) for name, pair in engines(comparison).items()},
        "causes": {name: _bytes(pair) for name, pair in causes(comparison).items()},
        "op_count": comparison.op_count,
        "ops": [op_row(op) for op in comparison.ops],
    }


def op_row(op: OpDifference) -> dict[str, Any]:
    """One op: its figures in an image, and what is attributed to it."""
    return {
        "component": op.component,
        "module": op.module,
        "path": f"{op.component}.{op.module}",
        "kind": op.kind,
        "name_before": op.names[0],
        "name_after": op.names[1],
        "reason": op.reason.value,
        "what": op.what,
        "before": op.before,
        "after": op.after,
        **_latency(op.image_ps),
        **_bytes(op.image_bytes),
        "attributed_ps": op.latency_ps,
        "attributed_ms": op.latency_ps / PS_PER_MS,
        "attributed_bytes": op.dram_bytes,
    }


def engines(comparison: Comparison) -> dict[str, tuple[int, int]]:
    """Busy picoseconds of an image by kind of engine, before and after."""
    return _sums({k.name.lower(): v for k, v in c.busy_ps.items()} for c in comparison.components)


def causes(comparison: Comparison) -> dict[str, tuple[int, int]]:
    """DRAM bytes of an image by cause, before and after."""
    return _sums(c.bytes_by_cause for c in comparison.components)


def _sums(tables: Any) -> dict[str, tuple[int, int]]:
    total: dict[str, tuple[int, int]] = {}
    for table in tables:
        for name, (before, after) in table.items():
            old, new = total.get(name, (0, 0))
            total[name] = old + before, new + after
    return total


def explain(a: Profile, b: Profile) -> list[str]:
    """Why ``b`` is not as ``a``: short sentences, the total, then the most important first. One
    sentence where nothing differs. Machines may differ; InputError without a common component."""
    return sentences(compare(a, b, force=True))


def sentences(comparison: Comparison) -> list[str]:
    """The same of a comparison."""
    if comparison.identical:
        machine = comparison.b.scenario.machine.name
        return [f"identical: the same programs on the same machine ({machine})."]
    if comparison.same_figures:
        return [
            "no difference in latency or traffic.",
            *(f"{c.what}: {c.before} → {c.after}." for c in comparison.changes),
        ]
    return [headline(comparison), *map(_sentence, shares(comparison.parts)), *_silent(comparison)]


def headline(comparison: Comparison) -> str:
    """Latency and traffic of an image, before and after."""
    (before, after), (old, new) = comparison.latency_ps, comparison.dram_bytes
    label = total_label([each.name for each in comparison.b.components])
    return (
        f"{label}: {before / PS_PER_MS:,.3f} ms → {after / PS_PER_MS:,.3f} ms "
        f"({_ms(after - before)}{_percent(before, after)}), "
        f"{old / MB:,.2f} MB → {new / MB:,.2f} MB ({_mb(new - old)}{_percent(old, new)})"
    )


def _sentence(share: Share) -> str:
    text = f"{share.title}: {_ms(share.latency_ps)}"
    if share.dram_bytes:
        text += f", {_mb(share.dram_bytes)}"
    part = share.largest
    if not share.ops:
        if part.latency_ps == share.latency_ps:
            return f"{text} ({part.component})."
        return f"{text}, most in {part.component} ({_ms(part.latency_ps)})."
    detail = f", {part.before} → {part.after}" if part.before or part.after else ""
    where = f"{part.component}.{part.module} ({_ms(part.latency_ps)}{detail})"
    return f"{text} in {share.ops} op{'s' * (share.ops > 1)}, most in {where}."


def _silent(comparison: Comparison) -> Iterator[str]:
    """Changes that no part names."""
    named = {(part.reason, part.what) for part in comparison.parts}
    for change in comparison.changes:
        steps = change.reason is Reason.STEPS and (Reason.STEPS, "evaluations") in named
        if (change.reason, change.what) not in named and not steps:
            yield f"{change.what}: {change.before} → {change.after}."


def _latency(pair: tuple[int, int]) -> dict[str, Any]:
    return _pair("latency", pair)


def _pair(name: str, pair: tuple[int, int]) -> dict[str, Any]:
    before, after = pair
    return {
        f"{name}_before_ms": before / PS_PER_MS,
        f"{name}_after_ms": after / PS_PER_MS,
        f"{name}_change_ms": (after - before) / PS_PER_MS,
        f"{name}_change_ps": after - before,
        f"{name}_change_percent": 100 * (after - before) / before if before else None,
    }


def _bytes(pair: tuple[int, int]) -> dict[str, Any]:
    before, after = pair
    return {
        "dram_before_bytes": before,
        "dram_after_bytes": after,
        "dram_change_bytes": after - before,
        "dram_change_percent": 100 * (after - before) / before if before else None,
    }


def _ms(ps: int) -> str:
    """Milliseconds with their sign, picoseconds where these would show as none."""
    ms = ps / PS_PER_MS
    return f"{ps:+,} ps" if ps and abs(ms) < _LEAST_MS else f"{ms:+,.3f} ms"


def _mb(nbytes: int) -> str:
    return f"{nbytes:+,} bytes" if abs(nbytes) < MB / 100 else f"{nbytes / MB:+,.2f} MB"


def _percent(before: int, after: int) -> str:
    return f", {100 * (after - before) / before:+.1f} %" if before and after != before else ""
