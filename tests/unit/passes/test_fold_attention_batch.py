"""fold-attention-batch: the heads of all images are heads of one attention."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.compiler.graph.functions import function_for
from edgefusion.compiler.graph.graph import Attribute, Graph
from edgefusion.passes.fold_attention_batch import FoldAttentionBatch
from edgefusion.passes.pass_manager import PassManager
from tests.graph_cases import CONTEXT, Array, assert_same, execute, parse, random_feeds

HEADS = 2


def drawn(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def model(
    batch: int, mask: tuple[int, ...] | None, *, given: bool = False, key_heads: int = HEADS
) -> Graph:
    shape = ", ".join(map(str, mask or ()))
    declared = f", float[{shape}] mask" if given else ""
    text = (
        f"g (float[{batch}, 5, 8] q, float[{batch}, 6, {4 * key_heads}] k, float[{batch}, 6, "
        f"{2 * key_heads}] v{declared}) "
        f"=> (float[{batch}, 5, 4] y) {{ y = Identity(q) }}"
    )
    graph = Graph.from_model(parse(text))
    (node,) = graph.nodes
    tensors = {tensor.name: tensor for tensor in graph.inputs}
    operands = [tensors[name] for name in "qkv"]
    if mask:
        operands.append(tensors["mask"] if given else graph.constant("mask", drawn(mask)))
    names = ["grouped"] if key_heads < HEADS else []
    attrs: dict[str, Attribute] = {"num_heads": HEADS, "scale": 0.5}
    if names:
        attrs["num_key_heads"] = key_heads
    function = function_for("Attention", (*names, *(["mask"] if mask else [])))
    graph.fuse([node], function, operands, [node.output], attrs)
    return graph


@pytest.mark.parametrize("key_heads", [HEADS, 1])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("mask", [None, (6,), (5, 6), (2, 5, 6), (3, 1, 5, 6), (3, 2, 1, 6)])
def test_images_become_heads(mask: tuple[int, ...] | None, key_heads: int, *, given: bool) -> None:
    graph = model(3, mask, given=given and mask is not None, key_heads=key_heads)
    before = graph.to_model()
    feeds = random_feeds(before)
    (record,) = PassManager([FoldAttentionBatch()]).run(graph, CONTEXT)
    assert record.matched == 1
    (fused,) = (node for node in graph.nodes if node.op.startswith("Attention"))
    assert fused.get_int("num_heads") == 3 * HEADS
    assert fused.inputs[0].shape == (1, 5, 24)
    assert_same(execute(graph.to_model(), feeds), execute(before, feeds))


def test_one_image_stays() -> None:
    graph = model(1, None)
    (record,) = PassManager([FoldAttentionBatch()]).run(graph, CONTEXT)
    assert not record.changed
