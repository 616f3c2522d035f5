"""The recipe search: which ops it takes, what it predicts, and that its file is a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefusion.compiler.network.network import NetOp, Network
from edgefusion.compiler.network.tensor import NetTensor
from edgefusion.compiler.ops.elementwise import Unary
from edgefusion.compiler.ops.movement import Reshape
from edgefusion.runtime.isa import DType, Role
from edgefusion.toolchain.accuracy.recipe import load_recipe
from edgefusion.toolchain.accuracy.recipe_search import propose
from edgefusion.toolchain.accuracy.sensitivity import Contribution

SHAPE = (1, 4, 4, 8)


def network(*half: str) -> Network:
    """x -a-> ta -view-> tv -b-> tb -c-> tc; results of the ops ``half`` are FP16."""
    tensors = {"x": NetTensor("x", SHAPE, DType.INT16, Role.INPUT)}
    ops, source = [], "x"
    for name in ("a", "view", "b", "c"):
        made = f"t{name}"
        dtype = DType.FP16 if name in half else DType.INT16
        tensors[made] = NetTensor(made, SHAPE, dtype)
        kind = Reshape(x=source) if name == "view" else Unary(x=source, function="silu")
        ops.append(NetOp(name, kind, (made,)))
        source = made
    return Network("unet", tensors, tuple(ops), ("x",), (source,))


def shares(**noise: float) -> dict[tuple[str, int | None], Contribution]:
    return {(op, 999): Contribution(share, 1e-9) for op, share in noise.items()}


def test_a_tensor_leaves_int16_with_its_readers_through_views() -> None:
    found = propose(network(), shares(a=1e-2, b=1e-6, c=1e-6), 40.0)
    assert found.added == ("a", "view", "b")
    assert found.reached
    # a in FP16; b too, but c reads it as INT16
    assert 10 ** (-found.predicted_db / 10) == pytest.approx(1e-9 + (1e-6 + 1e-9) + 1e-6)


def test_nothing_is_taken_below_the_gate_and_all_timesteps_count() -> None:
    assert propose(network(), shares(a=1e-6), 40.0).added == ()
    late = shares(a=1e-6) | {("c", 499): Contribution(1e-3, 1e-9)}
    assert propose(network(), late, 40.0).added == ("c",)


def test_a_gate_below_the_rounding_of_fp16_is_admitted_to_be_out_of_reach() -> None:
    noisy = {("c", 999): Contribution(1e-2, 1e-3)}
    found = propose(network(), noisy, 40.0)
    assert found.added == ("c",)
    assert found.predicted_db == pytest.approx(30.0)
    assert not found.reached


def test_ops_that_are_in_fp16_stay_there_and_the_file_loads(tmp_path: Path) -> None:
    found = propose(network("c"), shares(a=1e-2, b=1e-6, c=1e-6), 40.0)
    assert (found.already, found.added) == (("c",), ("a", "view", "b"))
    path = tmp_path / "r.toml"
    path.write_text(found.to_toml(["why"]))
    assert load_recipe(path).rules == tuple((op, "fp16") for op in ("c", "a", "view", "b"))
