"""What moved between two profiles, and which change it comes from: the parts add up, exactly.

From the first profile to the second, one change at a time, component by component:

1. **steps**: the evaluations of an image become the second's;
2. **target**: the machine's rates become the second's, one parameter after another in the order of
   a target file, and the first's program is timed again after each;
3. op by op, what is left between the first's program on the second's rates and the second's: an op
   without a partner counts in full, as do components. A difference goes under the first of these
   that holds: **graph** (no partner, other MACs or shapes of tensors), **precision** (other types),
   **schedule** (another one); **overlap** (the op's own instructions are the same, what runs beside
   it is not); and, where its instructions differ, what may have made the compiler choose others:
   **target**, **cost model**, **tool**; if nothing of these differs, **groups** (it runs with other
   ops, or others of its tensors stay in SRAM), **tiles** or **instructions**. Whether an op has
   another tile is told with any of them.

Sizes of a target (SRAM, engines) act through what was chosen for them: they are told as changes,
and what they make is what ops show under target. Time is in integer picoseconds and traffic in
useful bytes, both of a whole image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.ledger import CAUSES
from edgefusion.toolchain.profiling.profile import ComponentProfile, Profile
from edgefusion.toolchain.reporting.comparison.changes import (
    Change,
    changes_between,
    parameter_changes,
)
from edgefusion.toolchain.reporting.comparison.parts import OpDifference, Part, parts_of


@dataclass(frozen=True, slots=True)
class ComponentDifference:
    """A component of both profiles, or of one: then the other's figures are 0. All of an image."""

    name: str
    evaluations: tuple[int, int]
    latency_ps: tuple[int, int]
    dram_bytes: tuple[int, int]
    busy_ps: dict[EngineKind, tuple[int, int]]
    bytes_by_cause: dict[str, tuple[int, int]]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """``a`` and ``b``; ``changes`` are what differs of the bundles and what they were timed on.
    The sums of ``parts`` are the differences of latency and DRAM bytes, exactly; ``ops`` are those
    of which anything differs, the largest difference first."""

    a: Profile
    b: Profile
    changes: tuple[Change, ...]
    components: tuple[ComponentDifference, ...]
    parts: tuple[Part, ...]
    ops: tuple[OpDifference, ...]
    op_count: int

    @property
    def latency_ps(self) -> tuple[int, int]:
        """Of an image."""
        return self.a.latency.total_ps, self.b.latency.total_ps

    @property
    def dram_bytes(self) -> tuple[int, int]:
        """Of an image."""
        return self.a.dram_bytes, self.b.dram_bytes

    @property
    def same_figures(self) -> bool:
        """Whether no component, op, engine or cause has another figure."""
        return not self.parts and all(
            before == after
            for each in self.components
            for before, after in (*each.busy_ps.values(), *each.bytes_by_cause.values())
        )

    @cached_property
    def identical(self) -> bool:
        """Whether the same programs were timed on the same machine."""
        pairs = zip(self.a.components, self.b.components, strict=False)
        return (
            not self.changes
            and self.same_figures
            and not self.ops
            and all(a.program == b.program for a, b in pairs)
        )

    def __str__(self) -> str:
        from edgefusion.toolchain.reporting.comparison.document import sentences

        return "\n".join(sentences(self))

    def __repr__(self) -> str:
        before, after = (ps / 1e9 for ps in self.latency_ps)
        return (
            f"<Comparison of {self.a.label} and {self.b.label}: {before:,.3f} ms, then "
            f"{after:,.3f} ms; {len(self.ops)} of {self.op_count} ops differ>"
        )


def compare(a: Profile, b: Profile, *, force: bool = False) -> Comparison:
    """What is different in ``b``.

    Raises UsageError for profiles of different machines unless ``force``, InputError for two that
    have no component in common.
    """
    names_a, names_b = ([each.name for each in profile.components] for profile in (a, b))
    if not set(names_a) & set(names_b):
        raise InputError(
            f"{a.label} has {', '.join(names_a)}, and {b.label} has {', '.join(names_b)}: there is "
            "no component in common that could be compared. Name bundles of one pipeline."
        )
    if not force and a.scenario.machine.digest != b.scenario.machine.digest:
        raise UsageError(_different_machines(a, b))
    parts, ops = parts_of(a, b)
    return Comparison(
        a,
        b,
        changes_between(a, b),
        tuple(_component(a, b, name) for name in dict.fromkeys([*names_a, *names_b])),
        parts,
        tuple(sorted(ops, key=lambda op: (-abs(op.latency_ps), -abs(op.dram_bytes)))),
        max(len(a.ops), len(b.ops)),
    )


def _different_machines(a: Profile, b: Profile) -> str:
    changes = parameter_changes(a.scenario.machine, b.scenario.machine)
    names = [each.what for each in changes]
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"{a.label} is timed on {a.scenario.machine.name}, {b.label} on "
        f"{b.scenario.machine.name}, which differ in {listed or 'their names'}. Compare them "
        "all the same with --force: what the machine makes of it is told apart."
    )


def _component(a: Profile, b: Profile, name: str) -> ComponentDifference:
    before, after = (_find(profile, name) for profile in (a, b))
    n_a, n_b = (each.evaluations if each else 0 for each in (before, after))
    moved_a, moved_b = (_bytes_by_cause(each) for each in (before, after))

    def busy(each: ComponentProfile | None, kind: EngineKind) -> int:
        return each.evaluations * each.latency.busy_ps[kind] if each else 0

    latency_a, latency_b = (
        each.evaluations * each.latency.latency_ps if each else 0 for each in (before, after)
    )
    return ComponentDifference(
        name,
        (n_a, n_b),
        (latency_a, latency_b),
        (sum(moved_a.values()), sum(moved_b.values())),
        {kind: (busy(before, kind), busy(after, kind)) for kind in EngineKind},
        {cause: (moved_a.get(cause, 0), moved_b.get(cause, 0)) for cause in CAUSES[1:]},
    )


def _find(profile: Profile, name: str) -> ComponentProfile | None:
    return next((each for each in profile.components if each.name == name), None)


def _bytes_by_cause(component: ComponentProfile | None) -> dict[str, int]:
    if component is None:
        return {}
    moved = component.ledger.bytes_by_cause()
    return {name: component.evaluations * nbytes for name, nbytes in moved.items()}
