"""Differences of profiles: attributed to what changed, and the parts add up exactly."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.isa import DType
from edgefusion.toolchain.profiling.profile import Profile
from edgefusion.toolchain.reporting.comparison.changes import Reason
from edgefusion.toolchain.reporting.comparison.compare import Comparison, compare
from edgefusion.toolchain.reporting.comparison.document import (
    diff_document,
    explain,
    sentences,
    shares,
)
from edgefusion.toolchain.reporting.comparison.markdown import markdown
from tests.lowering_cases import attention_case, conv_case
from tests.profile_cases import MACHINE, block, profile_of, program_of


@pytest.fixture(scope="module")
def base() -> Profile:
    return profile_of({"text_encoder": block(), "unet": attention_case()})


def checked(a: Profile, b: Profile, *, force: bool = False) -> Comparison:
    """A comparison whose sums are right in all views."""
    found = compare(a, b, force=force)
    for value in ("latency_ps", "dram_bytes"):
        before, after = getattr(found, value)
        difference = after - before
        assert sum(getattr(part, value) for part in found.parts) == difference
        assert sum(getattr(share, value) for share in shares(found.parts)) == difference
        moved = [getattr(each, value) for each in found.components]
        assert sum(new - old for old, new in moved) == difference
        for each in found.components:
            old, new = getattr(each, value)
            parts = [part for part in found.parts if part.component == each.name]
            assert sum(getattr(part, value) for part in parts) == new - old
    for each in found.components:
        assert sum(new for _, new in each.bytes_by_cause.values()) == each.dram_bytes[1]
    document = diff_document(found)
    change = sum(row["latency_change_ps"] for row in document["attribution"])
    assert change == document["pipeline"]["latency_change_ps"]
    assert found.same_figures or markdown(found).startswith("# case.npub")
    return found


def reasons(comparison: Comparison) -> set[tuple[str, str]]:
    return {(part.reason.value, part.what) for part in comparison.parts}


def test_the_same_is_identical(base: Profile) -> None:
    again = profile_of({"text_encoder": block(), "unet": attention_case()})
    found = checked(base, again)
    assert found.identical
    assert explain(base, again) == [
        "identical: the same programs on the same machine (exynos2400)."
    ]
    assert "identical" in markdown(found)
    assert diff_document(found)["ops"] == diff_document(found)["attribution"] == []


def test_other_versions_with_the_same_programs_are_no_difference(base: Profile) -> None:
    again = profile_of({"text_encoder": block(), "unet": attention_case()}, tool_version="2")
    found = checked(base, again)
    assert not found.identical
    assert found.same_figures
    assert sentences(found) == ["no difference in latency or traffic.", "tool version: 1 → 2."]


def test_another_schedule(base: Profile) -> None:
    other = profile_of({"text_encoder": block(), "unet": attention_case()}, schedule="mlt")
    found = checked(base, other)
    assert {reason for reason, _ in reasons(found)} == {"schedule"}
    assert [(c.what, c.before, c.after) for c in found.changes] == [
        ("schedule", "pipelined", "mlt")
    ]
    assert found.latency_ps[1] > found.latency_ps[0]
    back = checked(other, base)
    moved = {op.path: op.latency_ps for op in found.ops}
    assert {op.path: -op.latency_ps for op in back.ops} == moved


def test_more_steps(base: Profile) -> None:
    other = profile_of({"text_encoder": block(), "unet": attention_case()}, steps=5)
    found = checked(base, other)
    (part,) = found.parts
    assert (part.reason, part.component) == (Reason.STEPS, "unet")
    assert part.latency_ps == 3 * base.component("unet").latency.latency_ps
    assert found.ops == ()
    assert "steps: evaluations 2 → 5: +" in sentences(found)[1]


def test_rates_are_told_one_by_one_and_need_force(base: Profile) -> None:
    networks = {"text_encoder": block(), "unet": attention_case()}
    programs = {name: program_of(network, "pipelined") for name, network in networks.items()}
    rates = {"dma_bandwidth_bytes_per_s": 1e10, "semaphore_ns": 500}
    machine = MACHINE.with_values(name="slow", **rates)
    other = profile_of(programs, machine=machine)
    with pytest.raises(UsageError, match=r"dma_bandwidth_bytes_per_s, semaphore_ns.*--force"):
        compare(base, other)
    found = checked(base, other, force=True)
    assert reasons(found) == {("target", key) for key in rates}
    assert found.ops == ()  # the programs are the same
    of_unet = {part.what: part.latency_ps for part in found.parts if part.component == "unet"}
    latency, machine = base.component("unet").latency.latency_ps, MACHINE
    for key, value in rates.items():
        machine = machine.with_values(**{key: value})
        now = profile_of({"unet": programs["unet"]}, machine=machine).components[0]
        # A rate may change one component alone.
        assert of_unet.get(key, 0) == 2 * (now.latency.latency_ps - latency)
        latency = now.latency.latency_ps
    assert any(of_unet.values())


def test_sizes_act_through_the_tiles() -> None:
    before, after = (
        profile_of({"unet": attention_case()}, machine=machine)
        for machine in (MACHINE, MACHINE.with_values(name="small", sram_bytes=1 << 16))
    )
    found = checked(before, after, force=True)
    assert reasons(found) == {("target", "tile")}
    assert ("sram_bytes", "65,536") in [(c.what, c.after) for c in found.changes]
    (op,) = found.ops
    assert op.before == before.ops[0].latency.tile
    assert op.after == after.ops[0].latency.tile


def test_sizes_and_rates_together() -> None:
    machine = MACHINE.with_values(name="small", sram_bytes=1 << 16, clock_hz=5e8)
    before, after = (
        profile_of({"unet": attention_case()}),
        profile_of({"unet": attention_case()}, machine=machine, steps=3),
    )
    found = checked(before, after, force=True)
    assert reasons(found) == {
        ("steps", "evaluations"),
        ("target", "clock_hz"),
        ("target", "tile"),
    }


def test_fewer_engines_act_through_the_instructions() -> None:
    """The first's program needs two channels: it is not timed with one."""
    machines = [MACHINE.with_values(name=f"dma{n}", dma_engines=n) for n in (2, 1)]
    before, after = (profile_of({"unet": attention_case()}, machine=each) for each in machines)
    assert before.components[0].program.columns.unit.max() == 1
    found = checked(before, after, force=True)
    assert {reason for reason, _ in reasons(found)} == {"target"}
    assert {op.path for op in found.ops} == {"unet.attention"}


def test_another_precision(base: Profile) -> None:
    other = profile_of({"text_encoder": block(weights=DType.FP16), "unet": attention_case()})
    found = checked(base, other)
    assert {op.module for op in found.ops if op.reason is Reason.PRECISION} >= {"ff.up", "ff.down"}
    assert {op.component for op in found.ops} == {"text_encoder"}
    up = next(op for op in found.ops if op.module == "ff.up")
    assert (up.what, up.before) == ("types", "activations int16, weights int8")
    assert up.after == "activations fp16, weights fp16"


@pytest.mark.parametrize("schedule", ["mlt", "pipelined"])
def test_an_inserted_node_moves_the_names_of_all_after_it(schedule: str) -> None:
    before, after = (
        profile_of({"unet": block(inserted=inserted)}, schedule=schedule)
        for inserted in (False, True)
    )
    found = checked(before, after)
    new = [op for op in found.ops if op.what == "new op"]
    assert [(op.module, op.kind, op.names) for op in new] == [("ff.extra", "unary", ("", "node_2"))]
    # In a group, the first op of the loop is the earliest at work whenever this one is.
    assert new[0].latency_ps > 0 or schedule == "pipelined"
    others = [op for op in found.ops if op not in new]
    assert all(op.reason is Reason.OVERLAP for op in others)
    if schedule == "mlt":  # nothing runs beside anything
        assert others == []
    back = checked(after, before)
    assert [op.module for op in back.ops if op.what == "op gone"] == ["ff.extra"]
    if schedule == "mlt":
        assert "graph: new op: +" in explain(before, after)[1]


def test_renumbered_nodes_are_no_difference() -> None:
    before, after = (profile_of({"unet": block(first=first)}) for first in (1, 40))
    found = checked(before, after)
    assert found.same_figures
    assert found.ops == ()
    assert not found.identical


def test_other_shapes_are_the_graphs() -> None:
    before, after = (profile_of({"unet": block(width=width)}) for width in (96, 128))
    found = checked(before, after)
    by_module = {op.module: op for op in found.ops}
    assert (by_module["ff.up"].what, by_module["ff.up"].after) == ("MACs", "2,097,152")
    act = by_module["ff.act"]
    assert (act.reason, act.what) == (Reason.GRAPH, "shapes")
    assert (act.before, act.after) == ("1x256x96, 1x256x96", "1x256x128, 1x256x128")


def test_another_tool_or_cost_model_that_chose_otherwise() -> None:
    """The same network lowered for another SRAM stands for another choice."""
    small = MACHINE.with_values(sram_bytes=1 << 16)
    other = program_of(attention_case(), "pipelined", small)
    before = profile_of({"unet": attention_case()})
    found = checked(before, profile_of({"unet": other}))
    assert reasons(found) == {("tiles", "tile")}
    tool = profile_of({"unet": other}, tool_version="2")
    assert reasons(checked(before, tool)) == {("tool", "tile")}
    model = replace(tool, manifest=replace(tool.manifest, cost_model_version=9))
    assert reasons(checked(before, model)) == {("cost model", "tile")}


def test_a_component_of_one_alone(base: Profile) -> None:
    other = profile_of({"unet": attention_case(), "vae_decoder": conv_case()})
    found = checked(base, other)
    assert reasons(found) == {("graph", "component gone"), ("graph", "new component")}
    gone, new = (
        next(p for p in found.parts if p.what == what) for _, what in sorted(reasons(found))
    )
    assert gone.latency_ps == -base.component("text_encoder").latency.latency_ps
    assert new.latency_ps == other.component("vae_decoder").latency.latency_ps


def test_nothing_in_common_is_refused(base: Profile) -> None:
    other = profile_of({"vae_decoder": conv_case()})
    with pytest.raises(InputError, match="no component in common"):
        compare(base, other, force=True)


def test_the_most_important_comes_first(base: Profile) -> None:
    other = profile_of(
        {"text_encoder": block(inserted=True), "unet": attention_case()}, steps=9, label="new.npub"
    )
    found = compare(base, other)
    moved = [abs(share.latency_ps) for share in shares(found.parts)]
    assert moved == sorted(moved, reverse=True)
    text = explain(base, other)
    assert text[0].startswith("one image, text_encoder and unet alone: 0.")
    assert text[1].startswith("steps: evaluations 2 → 9")
    assert repr(found).startswith("<Comparison of case.npub and new.npub: 0.")


def test_markdown_is_a_document_of_tables() -> None:
    before, after = (profile_of({"unet": block(inserted=i)}, schedule="mlt") for i in (False, True))
    lines = markdown(compare(before, after)).splitlines()
    assert lines[0] == "# case.npub against case.npub"
    tables = [line for line in lines if line.startswith("|")]
    assert any(line.startswith("| graph: new op | 1 | +0.0") for line in tables)
    assert any("| `unet.ff.extra` | 0.000 |" in line for line in tables)
    for line, following in pairwise(lines):
        if line.startswith("|") and following.startswith("|"):
            assert line.count("|") == following.count("|")
