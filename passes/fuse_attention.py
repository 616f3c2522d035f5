"""Scaled dot-product attention becomes one op on tokens, head split and merge included.

    q[n,lq,h*d] -> split heads -> * scale   \\
    k[n,lk,h*d] -> split heads -> * scale -> MatMul -> * scale -> + mask -> Softmax -> MatMul
    v[n,lk,h*e] -> split heads ------------------------------------------------------/ -> merge
Every scale is optional, and so is the mask. K and V may have fewer heads, each repeated for a group
of q's (Ainslie et al., "GQA", 2023): the repetition goes. The split is any chain of views that has
the effect of one (``passes.axis_atoms``); where q, k or v come from none, as after rotary
embeddings, tokens are made of them. Exporters guard the softmax against rows that are masked out
entirely (``Where(IsNaN(p), 0, p)``); the guard goes if the mask is a constant that has no such row,
and else multiplies the result (``passes.attention_guard``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from edgefusion.compiler.graph.functions import function_for
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.node import Attribute, Node, Tensor
from edgefusion.passes.attention_guard import Guards
from edgefusion.passes.attention_tokens import TokenWriter
from edgefusion.passes.axis_atoms import (
    REPEATED,
    VIEWS,
    Dims,
    dims,
    reshaped,
    results,
    sources,
    through_all,
)
from edgefusion.passes.matching import is_op, leak, normalized_axis, with_scalar
from edgefusion.passes.pass_base import PassContext, PassResult, Remarks


@dataclass(frozen=True)
class FuseAttention:
    """Makes ``edgefusion.Attention`` or ``Attention_mask`` around each softmax that is one."""

    name: ClassVar[str] = "fuse-attention"

    def run(self, graph: Graph, context: PassContext) -> PassResult:  # noqa: ARG002
        """Rewrite every match."""
        remarks = Remarks(self.name)
        guards = Guards(graph)
        for softmax in graph.nodes:
            if not is_op(softmax, "Softmax"):
                continue
            match = _match(softmax)
            if isinstance(match, str):
                remarks.missed(softmax, match)
            elif match:
                remarks.matched(_rewrite(graph, match, guards), match.summary)
        return remarks.result()


@dataclass(frozen=True)
class _Match:
    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    result: Tensor
    nodes: list[Node]
    heads: int
    scale: float
    guarded: bool = False
    """Whether rows of the mask may leave nothing to attend to, which gives zeros."""
    lead: tuple[int, ...] | None = None
    """Leading axes of scores whose q, k and v are heads; None for tokens."""
    group: int = 1
    """How many heads of q each of k and v is for."""
    k_transposed: bool = True
    """Whether keys that are heads are [..., d, lk]."""

    @property
    def summary(self) -> str:
        kind = "self" if _root(self.q) is _root(self.k) else "cross"
        masked = ", masked" if self.mask else ""
        depth = self.q.shape[-1] if self.lead is not None else self.q.shape[-1] // self.heads
        keys = self.k.shape[-1] if self.lead is not None else self.k.shape[-2]
        sizes = f"{self.q.shape[-2]} x {keys}"
        return f"{kind}-attention, {self.heads} heads of {depth}, {sizes} scores{masked}"


def _rewrite(graph: Graph, match: _Match, guards: Guards) -> Node:
    """The fused op, and what leads to it and from it."""
    last, shape, mask = match.nodes[-1], match.result.shape, match.mask
    writer = TokenWriter(graph, last)
    factor = None
    if match.guarded:
        assert mask is not None
        mask, factor = guards.of(mask)
    q, k, v = match.q, match.k, match.v
    if match.lead is not None:
        k = writer.tokens(k, transposed=match.k_transposed)
        q, v = writer.tokens(q), writer.tokens(v)
        mask = writer.mask(mask, match.lead) if mask else None
    operands = [q, k, v, *([mask] if mask else [])]
    attrs: dict[str, Attribute] = {"num_heads": match.heads, "scale": match.scale}
    tokens_of_name = ["mask"] if mask else []
    if match.group > 1:
        attrs["num_key_heads"] = match.heads // match.group
        tokens_of_name.insert(0, "grouped")
    function = function_for("Attention", tuple(tokens_of_name))
    made = (*q.shape[:2], v.shape[2] * match.group)
    if factor is None and made == shape and match.lead is None:
        return graph.fuse(match.nodes, function, operands, [match.result], attrs)
    tokens = graph.tensor(f"{match.result.name}.tokens", made, q.dtype)
    fused = graph.add(
        function, operands, [tokens], attrs, source=match.nodes, name=last.name, before=last
    )
    if factor is not None and prod(factor.shape[:-2]) in (1, made[0]):
        tokens = writer.product(tokens, guards.rows(factor))
        factor = None
    if match.lead is not None:
        tokens = writer.heads(tokens, shape)
    if factor is not None:
        graph.fuse(match.nodes, "Mul", [writer.view(tokens, shape), factor], [match.result])
    else:
        graph.fuse(match.nodes, "Reshape", [tokens, writer.sizes(shape)], [match.result])
    return fused


def _root(tokens: Tensor) -> Tensor:
    """What tokens are projected from: the operand of their linear layer."""
    node = tokens.producer
    while is_op(node, "Add", "MatMul") and node is not None:
        tokens = node.inputs[0]
        if node.op == "MatMul":
            break
        node = tokens.producer
    return tokens


@dataclass(frozen=True)
class _Scores:
    """From the product of q and k to the softmax's operand; ``masked`` is the shape at the mask."""

    product: Node
    nodes: list[Node]
    scale: float
    mask: Tensor | None
    masked: tuple[int, ...]

    def mask_misfit(self, heads: tuple[int, int]) -> bool:
        """Whether the mask cannot be broadcast to the scores [n,h,lq,lk]."""
        if self.mask is None or all(size == 1 for size in self.mask.shape[:-2]):
            return False
        return self.masked[:-2] != heads


def _match(softmax: Node) -> _Match | str | None:
    scores = _scores(softmax.inputs[0])
    weighted = _weighted(softmax)
    if not isinstance(scores, _Scores) or weighted is None:
        # One product alone is a classifier's softmax, not a near-match.
        return scores if isinstance(scores, str) and weighted else None
    axis = normalized_axis(softmax.get_int("axis", -1), softmax.output.rank)
    if axis != softmax.output.rank - 1:
        return f"the softmax is along axis {axis}, not the last"
    guard, product = weighted
    if product.inputs[0] is not (guard[-1].output if guard else softmax.output):
        return "the softmax is the right operand of its product"
    guarded = bool(guard) and scores.mask is not None and not scores.mask.is_constant
    if guard and scores.mask is not None:
        reason = _unguarded(scores.mask)
        if reason:
            return reason
    q, q_nodes, q_scale = _unscaled(scores.product.inputs[0])
    k, k_nodes, k_scale = _unscaled(scores.product.inputs[1])
    core = [*q_nodes, *k_nodes, scores.product, *scores.nodes, softmax, *guard, product]
    reason = leak([scores.product, *scores.nodes, softmax, *guard, product], [product.output])
    if reason:
        return reason
    scale = q_scale * k_scale * scores.scale
    heads = _heads(q, k, product)
    if heads is None or scores.mask_misfit((heads.q.shape[0], heads.count)):
        return _loose(q, k, product, core, scores, scale, guarded=guarded)
    return _Match(
        heads.q,
        heads.k,
        heads.v,
        scores.mask,
        heads.result,
        list(dict.fromkeys([*heads.before, *core, *heads.after])),
        heads.count,
        scale,
        guarded,
        group=heads.group,
    )


def _loose(
    q: Tensor,
    k: Tensor,
    product: Node,
    core: list[Node],
    scores: _Scores,
    scale: float,
    *,
    guarded: bool,
) -> _Match | str:
    """Heads that are split from no tokens: q[..., lq, d], k[..., d, lk], v[..., lk, e]."""
    v, result = product.inputs[1], product.output
    leads = {tensor.shape[:-2] for tensor in (q, k, v, result)}
    if len(leads) > 1:
        return f"q {list(q.shape)}, k {list(k.shape)} and v {list(v.shape)} have other heads each"
    if any(tensor.is_constant for tensor in (q, k, v)):
        return "one of q, k and v is a constant"
    (lead,) = leads
    masked = scores.masked[:-2] if scores.mask is not None else lead
    if guarded and masked != lead:
        return "the guard against masked-out rows is of other axes than the result"
    core, mask = list(dict.fromkeys(core)), scores.mask
    once_k, once_v = _once(k, lead, "hdl"), _once(v, lead, "hld")
    if once_k and once_v and once_k[1] == once_v[1]:
        (k, group), (v, _) = once_k, once_v
        heads = prod(lead)
        return _Match(
            q, k, v, mask, result, core, heads, scale, guarded, masked, group, k_transposed=False
        )
    return _Match(q, k, v, mask, result, core, prod(lead), scale, guarded, masked)


def _once(tensor: Tensor, lead: tuple[int, ...], order: str) -> tuple[Tensor, int] | None:
    """The heads [n, hk, l, d] that ``tensor`` has repeated, and how often."""
    for heads, views in sources(tensor, _REPEATING):
        if heads.rank != 4 or not views or heads.shape[0] != 1:
            continue
        _, count, length, depth = heads.shape
        group, rest = prod(lead) // count, prod(lead) % count
        if group == 1 or rest:
            continue
        atoms = {"h": ("h", count), "l": ("l", length), "d": ("d", depth)}
        found = through_all(dims([], [atoms["h"]], [atoms["l"]], [atoms["d"]]), views)
        if found is not None and _flat(found) == _split(atoms, order, group):
            return heads, group
    return None


_REPEATING = (*VIEWS, "Expand")


def _split(atoms: Mapping[str, tuple[str, int]], order: str, group: int) -> list[tuple[str, int]]:
    """``atoms`` in their ``order``, each head repeated ``group`` times."""
    listed = []
    for name in order:
        listed += [atoms[name], *([(REPEATED, group)] if name == "h" else [])]
    return [atom for atom in listed if atom[1] != 1]


def _scores(tensor: Tensor) -> _Scores | str:
    """Walk back over scales, one mask and views of the leading dimensions to the product."""
    nodes: list[Node] = []
    scale, mask = 1.0, None
    masked: tuple[int, ...] = ()
    while (node := tensor.producer) is not None:
        if is_op(node, "MatMul"):
            return _Scores(node, nodes[::-1], scale, mask, masked)
        scaled = _scaling(node)
        if scaled:
            tensor, factor = scaled
            scale *= factor
        elif is_op(node, "Reshape") and node.inputs[0].shape[-2:] == tensor.shape[-2:]:
            tensor = node.inputs[0]
        elif is_op(node, "Add") and mask is None:
            if any(_scaling(after) for after in nodes):
                return "the mask is scaled together with the scores"
            sides = [side for side in node.inputs if isinstance(_scores(side), _Scores)]
            if len(sides) != 1:
                return "a sum of two products, or of none"
            tensor = sides[0]
            mask = next(side for side in node.inputs if side is not tensor)
            if tensor.shape != node.output.shape:
                return "the mask broadcasts the scores"
            masked = tensor.shape
        else:
            return f"the scores come from {node.op}, not from a product of q and k"
        nodes.append(node)
    return "the scores come from no product of q and k"


def _scaling(node: Node) -> tuple[Tensor, float] | None:
    """Operand and factor of a multiplication or division by a constant."""
    if is_op(node, "Mul"):
        return with_scalar(node)
    if not is_op(node, "Div") or node.output.rank != node.inputs[0].rank:
        return None
    divisor = node.inputs[1].scalar()
    return (node.inputs[0], 1.0 / divisor) if divisor else None


def _unscaled(tensor: Tensor) -> tuple[Tensor, list[Node], float]:
    """Walk back over scales: what is scaled, the nodes, and the factor."""
    nodes: list[Node] = []
    factor = 1.0
    while (node := tensor.producer) is not None and (scaled := _scaling(node)):
        tensor, each = scaled
        factor *= each
        nodes.append(node)
    return tensor, nodes[::-1], factor


def _weighted(softmax: Node) -> tuple[list[Node], Node] | None:
    """The NaN guard, if there is one, and the product of the softmax with v."""
    weights, guard = softmax.output, []
    test = next((c for c in weights.consumers if is_op(c, "IsNaN")), None)
    choice = test.output.only_consumer if test else None
    if test and choice and is_op(choice, "Where"):
        condition, nought, values = choice.inputs
        if condition is test.output and nought.scalar() == 0.0 and values is weights:
            guard, weights = [test, choice], choice.output
    product = next((c for c in weights.consumers if is_op(c, "MatMul")), None)
    return (guard, product) if product else None


def _unguarded(mask: Tensor) -> str:
    """Why the guard against rows without any key can neither go nor follow; '' if it can."""
    if not mask.is_constant:
        same = prod(mask.shape[-3:-2]) == 1
        return "" if same else "the guard against masked-out rows is needed: each head has its own"
    if np.isneginf(mask.values()).all(axis=-1).any():
        return "the guard against masked-out rows is needed: the mask has such rows"
    return ""


@dataclass(frozen=True)
class _Heads:
    """Tokens before the split and after the merge, with the views in between."""

    q: Tensor
    k: Tensor
    v: Tensor
    result: Tensor
    before: list[Node]
    after: list[Node]
    count: int
    group: int


def _heads(q: Tensor, k: Tensor, product: Node) -> _Heads | None:
    """The tokens that q[..,lq,d], k[..,d,lk] and v[..,lk,e] are split from, if they are, and into
    which the result is merged."""
    v, result = product.inputs[1], product.output
    depth, v_depth = q.shape[-1], v.shape[-1]
    for q_tokens, q_views, _ in _tokens(q, depth, "nhld"):
        count = q_tokens.shape[-1] // depth
        for k_tokens, k_views, group in _tokens(k, depth, "nhdl", _REPEATING):
            for v_tokens, v_views, v_group in _tokens(v, v_depth, "nhld", _REPEATING):
                widths = k_tokens.shape[2] * group, v_tokens.shape[2] * group
                if (
                    group != v_group
                    or widths != (count * depth, count * v_depth)
                    or len({t.shape[0] for t in (q_tokens, k_tokens, v_tokens)}) > 1
                    or k_tokens.shape[1] != v_tokens.shape[1]
                ):
                    continue
                merged = _merged(result, q_tokens.shape[0], q_tokens.shape[1], count, v_depth)
                if merged:
                    before = [*q_views, *k_views, *v_views]
                    return _Heads(
                        q_tokens,
                        k_tokens,
                        v_tokens,
                        merged[0],
                        before,
                        list(merged[1]),
                        count,
                        group,
                    )
    return None


def _tokens(
    tensor: Tensor, depth: int, order: str, ops: Sequence[str] = VIEWS
) -> Iterator[tuple[Tensor, tuple[Node, ...], int]]:
    """What ``tensor`` may be the head split of, furthest first, and how often heads are repeated.

    ``order`` names the dimensions of the split tensor: n batch, h heads, l length, d depth.
    """
    for tokens, views in reversed(list(sources(tensor, ops))):
        if tokens.rank != 3 or tokens.shape[-1] % depth:
            continue
        batch, length, width = tokens.shape
        atoms = {"n": ("n", batch), "h": ("h", width // depth), "l": ("l", length)}
        atoms["d"] = ("d", depth)
        found = through_all(dims([atoms["n"]], [atoms["l"]], [atoms["h"], atoms["d"]]), views)
        group = prod(tensor.shape) // prod(tokens.shape)
        if found is not None and _flat(found) == _split(atoms, order, group):
            yield tokens, views, group


def _merged(
    result: Tensor, batch: int, length: int, heads: int, depth: int
) -> tuple[Tensor, tuple[Node, ...]] | None:
    """The tokens [n, l, h*e] or [n*l, h*e] that the product [n,h,l,e] is merged into."""
    n, h, rows, e = ("n", batch), ("h", heads), ("l", length), ("e", depth)
    split = reshaped(dims([n], [h], [rows], [e]), result.shape)
    wanted = {
        (batch, length, heads * depth): dims([n], [rows], [h, e]),
        (batch * length, heads * depth): dims([n, rows], [h, e]),
    }
    for tokens, views in results(result):
        if split and tokens.shape in wanted and through_all(split, views) == wanted[tokens.shape]:
            return tokens, views
    return None


def _flat(state: Dims) -> list[tuple[str, int]]:
    return [atom for axis in state for atom in axis]
