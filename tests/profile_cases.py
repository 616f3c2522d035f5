"""Profiles of small networks, made without a bundle: for what is reported of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgefusion.compiler.bundle.manifest import ComponentInfo, Manifest, SourceInfo
from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.ops.elementwise import Binary, Unary
from edgefusion.compiler.ops.matmul import MatMul
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.cost import COST_MODEL_VERSION
from edgefusion.runtime.isa import DType, Role
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Program
from edgefusion.runtime.target import load_target, target_of
from edgefusion.toolchain.profiling.profile import Profile, profile_program
from edgefusion.toolchain.profiling.scenario import Scenario
from tests.lowering_cases import NetworkBuilder

MACHINE = load_target("exynos2400").machine


def block(
    *, width: int = 96, weights: DType = DType.INT8, first: int = 1, inserted: bool = False
) -> Network:
    """A feed-forward block: two products, a function between them, a sum. Nodes are numbered from
    ``first`` on; ``inserted`` puts another function, from a node of its own, behind the first
    product, which moves the numbers of all after it."""
    b = NetworkBuilder()
    b.add("x", 1, 256, 64, role=Role.INPUT)
    for name, shape in (("w1", (64, width)), ("w2", (width, 64))):
        if weights is DType.INT8:
            b.weight(name, *shape)
        else:
            b.add(name, *shape, dtype=weights, role=Role.WEIGHT)
    activations = DType.INT16 if weights is DType.INT8 else weights
    for name in ("h", "g", "e"):
        b.add(name, 1, 256, width, dtype=activations)
    b.add("p", 1, 256, 64, dtype=activations)
    b.add("y", 1, 256, 64, dtype=activations, role=Role.OUTPUT)
    b.tensors["x"] = replace(b.tensors["x"], dtype=activations)
    number = first
    steps = [("ff.up", MatMul(x="x", w="w1"), "h")]
    if inserted:
        steps += [("ff.extra", Unary(x="h", function="gelu"), "e")]
    steps += [
        ("ff.act", Unary(x="e" if inserted else "h", function="silu"), "g"),
        ("ff.down", MatMul(x="g", w="w2"), "p"),
        ("", Binary(a="p", b="x", function="add"), "y"),
    ]
    if not inserted:
        del b.tensors["e"]
    for scope, kind, output in steps:
        b.op(f"node_{number}", kind, output)
        b.ops[-1] = replace(b.ops[-1], scope=scope)
        number += 1
    return b.build()


def program_of(network: Network, schedule: str, machine: Machine = MACHINE) -> Program:
    return lower(network, machine, schedule_named(schedule)).program


def profile_of(
    networks: Mapping[str, Network | Program],
    *,
    schedule: str = "pipelined",
    machine: Machine = MACHINE,
    steps: int = 2,
    label: str = "case.npub",
    tool_version: str = "1",
) -> Profile:
    """The networks as components of a pipeline."""
    programs = {
        name: replace(
            each if isinstance(each, Program) else program_of(each, schedule, machine),
            component=name,
        )
        for name, each in networks.items()
    }
    evaluations = {name: steps if name == "unet" else 1 for name in programs}
    infos = tuple(
        ComponentInfo(name, "w8a16", evaluations[name], len(p), p.sram_bytes, 0, (), ())
        for name, p in programs.items()
    )
    source = SourceInfo("onnx", "case", "0")
    manifest = Manifest(
        tool_version, source, machine, COST_MODEL_VERSION, schedule, steps, infos, {}
    )
    scenario = Scenario(target_of(machine), schedule, steps, {})
    parts = (profile_program(p, scenario, evaluations[name]) for name, p in programs.items())
    return Profile(label, manifest, scenario, tuple(parts))
