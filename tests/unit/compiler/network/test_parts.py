"""What of a network depends on constant inputs alone, found from the graph's edges."""

from __future__ import annotations

from dataclasses import replace

from edgefusion.compiler.network.parts import in_parts
from edgefusion.compiler.network.verify_network import verify_network
from edgefusion.runtime.isa import Role
from tests.group_cases import prompted, transformer


def test_keys_and_values_of_a_prompt_are_a_part_of_their_own() -> None:
    network = prompted()
    first, second = in_parts(network)
    kinds = [op.kind.name for op in first.ops]
    assert kinds == ["view", "matmul", "unary", *["matmul"] * 4]
    assert first.inputs == network.constant_inputs
    assert len(first.outputs) == 4
    assert set(first.outputs) < set(second.inputs)
    assert second.outputs == network.outputs
    assert not set(network.constant_inputs) & set(second.inputs)
    assert {op.name for op in (*first.ops, *second.ops)} == {op.name for op in network.ops}
    assert all(second.tensor(name).role is Role.INPUT for name in first.outputs)
    for part in (first, second):
        verify_network(part)


def test_a_view_of_what_crosses_is_one_where_it_is_read() -> None:
    network = prompted()
    # The attention reads its keys under another shape.
    view = next(op for op in network.ops if op.kind.is_view)
    attention = next(op for op in network.ops if op.kind.name == "attention")
    keys = attention.inputs[1]
    seen = replace(view, name="seen", kind=replace(view.kind, x=keys), outputs=("seen",))
    read = replace(attention, kind=replace(attention.kind, k="seen"))
    ops = [read if op is attention else op for op in network.ops]
    ops.insert(ops.index(read), seen)
    tensors = {**network.tensors, "seen": replace(network.tensor(keys), name="seen")}
    first, second = in_parts(replace(network, ops=tuple(ops), tensors=tensors))
    assert keys in first.outputs
    assert "seen" not in (*first.outputs, *second.inputs)
    assert seen in second.ops
    verify_network(second)


def test_networks_without_such_ops_stay_whole() -> None:
    for network in (transformer(), replace(prompted(), constant_inputs=())):
        assert in_parts(network) == (network,)


def test_what_a_network_results_in_is_made_at_every_run() -> None:
    network = prompted()
    keys = next(op for op in network.ops if op.kind.name == "attention").inputs[1]
    network = replace(network, outputs=(*network.outputs, keys))
    assert in_parts(network) == (network,)
