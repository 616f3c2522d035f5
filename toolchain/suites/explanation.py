"""What moved between a baseline and now, in sentences: the conditions, the pipeline, each part's
engines and bytes, and the ops that moved most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgefusion.runtime.latency import PS_PER_MS
from edgefusion.toolchain.suites.figures import PIPELINE, Conditions, Figures, OpFigures

_SHOWN_OPS = 5
_SHOWN_DIGITS = 12
_MS_FROM_PS = 10**6
"""Smaller differences are told in picoseconds; of milliseconds, three decimals are shown."""
_LEAST_PERCENT = 0.005
_ENGINES, _STALLS, _CAUSES = "busy_ps.", "stall_ps.", "dram_bytes_by_cause."


@dataclass(frozen=True, slots=True)
class MovedOp:
    """An op whose figures differ; None where one side has it not."""

    component: str
    name: str
    before: OpFigures | None
    after: OpFigures | None
    image_ps: int
    """By how much an image takes longer for it."""

    def __str__(self) -> str:
        where = f"{self.component}.{self.name}"
        if self.before is None or self.after is None:
            only, what = (self.after, "is new") if self.before is None else (self.before, "is gone")
            assert only is not None
            return f"{where} {what}: {milliseconds(only.latency_ps)}"
        text = f"{where}: {moved_ps(self.before.latency_ps, self.after.latency_ps)}"
        if self.before.dram_bytes != self.after.dram_bytes:
            text += f", {self.after.dram_bytes - self.before.dram_bytes:+,} bytes"
        if self.before.tile != self.after.tile:
            text += f", tile {self.before.tile or 'none'} -> {self.after.tile or 'none'}"
        return text


def other_conditions(before: Conditions, after: Conditions) -> list[str]:
    """What makes the two not comparable as they are: another machine, schedule, cost model..."""
    found = []
    if before.cost_model_version != after.cost_model_version:
        found.append(f"cost model {before.cost_model_version} -> {after.cost_model_version}")
    if before.target_digest != after.target_digest:
        changed = ", ".join(_parameters(before.parameters, after.parameters))
        found.append(f"target {_named(before.target, after.target)}: {changed or 'another'}")
    for key in ("schedule", "steps"):
        old, new = getattr(before, key), getattr(after, key)
        if old != new:
            found.append(f"{key} {old} -> {new}")
    return found


def remarks(before: Conditions, after: Conditions) -> list[str]:
    """What differs without being a change of its own: the tool's version, the source's weights."""
    found = []
    if before.tool_version != after.tool_version:
        found.append(f"tool {before.tool_version} -> {after.tool_version}")
    if before.source_digest != after.source_digest:
        digests = f"{before.source_digest[:_SHOWN_DIGITS]} -> {after.source_digest[:_SHOWN_DIGITS]}"
        found.append(f"source {_named(before.source, after.source)}: content {digests}")
    return found


def explain(before: Figures, after: Figures) -> list[str]:
    """Lines, the most general first; those that begin with spaces belong to the one above."""
    lines = []
    if conditions := other_conditions(before.conditions, after.conditions):
        lines.append(f"timed on something else: {'; '.join(conditions)}")
    lines += [f"also: {text}" for text in remarks(before.conditions, after.conditions)]
    old, new = before.metrics[PIPELINE], after.metrics[PIPELINE]
    lines += _part(PIPELINE, old, new)
    for name in dict.fromkeys((*before.metrics, *after.metrics)):
        if name == PIPELINE:
            continue
        if name not in before.metrics or name not in after.metrics:
            lines.append(f"component {name} is {'new' if name in after.metrics else 'gone'}")
        else:
            lines += _part(name, before.metrics[name], after.metrics[name])
    ops = moved_ops(before, after)
    if ops:
        lines.append(f"ops that moved, of an evaluation each ({len(ops)} in all):")
        lines += [f"  {op}" for op in ops[:_SHOWN_OPS]]
    return lines


def moved_ops(before: Figures, after: Figures) -> list[MovedOp]:
    """All ops whose figures differ, those first that move an image's latency most."""
    found = []
    for component in dict.fromkeys((*before.ops, *after.ops)):
        old, new = before.ops.get(component, {}), after.ops.get(component, {})
        runs = _evaluations(after, component) or _evaluations(before, component)
        for name in dict.fromkeys((*new, *old)):
            was, now = old.get(name), new.get(name)
            if was != now:
                ps = (now.latency_ps if now else 0) - (was.latency_ps if was else 0)
                found.append(MovedOp(component, name, was, now, runs * ps))
    return sorted(found, key=lambda op: -abs(op.image_ps))


def milliseconds(ps: int) -> str:
    """Three decimals."""
    return f"{ps / PS_PER_MS:,.3f} ms"


def moved_ps(before: int, after: int) -> str:
    """``1.701 -> 1.801 ms (+0.100 ms, +5.9 %)``."""
    if before == after:
        return milliseconds(after)
    share = f", {percent(before, after)}" if before else ""
    return (
        f"{before / PS_PER_MS:,.3f} -> {milliseconds(after)} ({_difference(after - before)}{share})"
    )


def percent(before: int, after: int) -> str:
    """The change as a percentage of ``before``, with its sign."""
    value = 100 * (after - before) / before
    return f"{value:+.2f} %" if abs(value) >= _LEAST_PERCENT else "below 0.01 %"


def _difference(ps: int) -> str:
    return f"{ps / PS_PER_MS:+,.3f} ms" if abs(ps) >= _MS_FROM_PS else f"{ps:+,} ps"


def _part(name: str, before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """What an image or a component's evaluation shows, a line for each view that moved."""
    if before == after:
        return []
    evaluations = after.get("evaluations")
    each = "" if evaluations is None else f", an evaluation (of {evaluations})"
    lines = [f"{name}{each}: {moved_ps(before.get('latency_ps', 0), after.get('latency_ps', 0))}"]
    times, amounts = [], []
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key, 0), after.get(key, 0)
        if old == new or key == "latency_ps":
            continue
        if key.startswith(_ENGINES):
            times.append(f"{key.removeprefix(_ENGINES)} busy {_difference(new - old)}")
        elif key.startswith(_STALLS):
            times.append(f"waiting for {key.removeprefix(_STALLS)} {_difference(new - old)}")
        elif key.endswith("_ps"):
            times.append(f"{key.removesuffix('_ps')} {_difference(new - old)}")
        elif key.startswith(_CAUSES):
            amounts.append(f"{key.removeprefix(_CAUSES)} {new - old:+,} bytes")
        elif not key.startswith("dram_"):  # the causes say it
            amounts.append(f"{key.replace('_', ' ')} {old:,} -> {new:,}")
    return lines + [f"  {', '.join(texts)}" for texts in (times, amounts) if texts]


def _evaluations(figures: Figures, component: str) -> int:
    return figures.metrics.get(component, {}).get("evaluations", 0)


def _named(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}"


def _parameters(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key), after.get(key)
        if old != new:
            yield f"{key} {_plain(old)} -> {_plain(new)}"


def _plain(value: object) -> str:
    return f"{value:,.12g}" if isinstance(value, int | float) else "none"
