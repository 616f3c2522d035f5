"""fuse-attention: the ways exporters write attention, and what only looks like it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefusion.passes.fuse_attention import FuseAttention
from tests.graph_cases import Outcome, Weights, rewritten, untouched

HEADS, DEPTH, V_DEPTH, QUERIES, KEYS = 3, 4, 5, 6, 7
WEIGHTS: Weights = {
    "split": np.array([0, 0, HEADS, -1]),
    "merge": np.array([0, 0, HEADS * V_DEPTH]),
    "half": np.array([0.5], np.float32),
    "two": np.array(2.0, np.float32),
    "nought": np.array(0.0, np.float32),
}
Q = "q4 = Reshape(q, split) qh = Transpose<perm = [0, 2, 1, 3]>(q4)"
K = "k4 = Reshape(k, split) kh = Transpose<perm = [0, 2, 3, 1]>(k4)"
V = "v4 = Reshape(v, split) vh = Transpose<perm = [0, 2, 1, 3]>(v4)"
CORE = "s = MatMul(qh, kh) p = Softmax<axis = -1>(s) o = MatMul(p, vh)"
MERGE = "ot = Transpose<perm = [0, 2, 1, 3]>(o) y = Reshape(ot, merge)"


def case(*body: str, batch: int = 1, extra: str = "", outputs: str = "") -> str:
    return (
        f"g (float[{batch}, {QUERIES}, {HEADS * DEPTH}] q, float[{batch}, {KEYS}, {HEADS * DEPTH}] "
        f"k, float[{batch}, {KEYS}, {HEADS * V_DEPTH}] v{extra}) => "
        f"(float[{batch}, {QUERIES}, {HEADS * V_DEPTH}] y{outputs}) {{ {' '.join(body)} }}"
    )


def check(outcome: Outcome, scale: float = 1.0, op: str = "Attention") -> None:
    assert outcome.ops == [op]
    assert outcome.only.get_int("num_heads") == HEADS
    assert outcome.only.get_float("scale") == pytest.approx(scale)
    assert [t.name for t in outcome.only.inputs[:3]] == ["q", "k", "v"]


@pytest.mark.parametrize("batch", [1, 2])
def test_plain(batch: int) -> None:
    check(rewritten(FuseAttention(), case(Q, K, V, CORE, MERGE, batch=batch), WEIGHTS))


def test_scale_on_both_sides_as_pytorch_writes_it() -> None:
    k = (
        "k4 = Reshape(k, split) k1 = Transpose<perm = [0, 2, 1, 3]>(k4) k2 = Reshape(k1, rows) "
        "k3 = Transpose<perm = [0, 2, 1]>(k2) k5 = Reshape(k3, back) kh = Mul(k5, half)"
    )
    weights = {
        **WEIGHTS,
        "rows": np.array([-1, KEYS, DEPTH]),
        "back": np.array([1, HEADS, DEPTH, KEYS]),
    }
    q = Q.replace("qh =", "q1 =") + " qh = Mul(q1, half)"
    check(rewritten(FuseAttention(), case(q, k, V, CORE, MERGE), weights), 0.25)


SCALED = ["t = Mul(s, half)", "t = Mul(half, s)", "t = Div(s, two)"]


@pytest.mark.parametrize("scaling", SCALED)
def test_scale_on_the_scores(scaling: str) -> None:
    core = CORE.replace("p = Softmax<axis = -1>(s)", f"{scaling} p = Softmax<axis = -1>(t)")
    check(rewritten(FuseAttention(), case(Q, K, V, core, MERGE), WEIGHTS), 0.5)


@pytest.mark.parametrize("add", ["Add(s, mask)", "Add(mask, s)"])
@pytest.mark.parametrize(
    "shape", [(QUERIES, KEYS), (1, 1, QUERIES, KEYS), (1, HEADS, 1, KEYS), (KEYS,)]
)
def test_mask(add: str, shape: tuple[int, ...]) -> None:
    core = CORE.replace("p = Softmax<axis = -1>(s)", f"t = {add} p = Softmax<axis = -1>(t)")
    outcome = rewritten(FuseAttention(), case(Q, K, V, core, MERGE), {**WEIGHTS, "mask": shape})
    check(outcome, op="Attention_mask")


FOLD = "qr = Reshape(qh, rows) kr = Reshape(kh, columns) vr = Reshape(vh, values)"
FOLDED_CORE = (
    "s = MatMul(qr, kr) p = Softmax<axis = -1>(s) o3 = MatMul(p, vr) o = Reshape(o3, heads)"
)
FOLDED: Weights = {
    **WEIGHTS,
    "rows": np.array([-1, QUERIES, DEPTH]),
    "columns": np.array([-1, DEPTH, KEYS]),
    "values": np.array([-1, KEYS, V_DEPTH]),
    "heads": np.array([2, HEADS, QUERIES, V_DEPTH]),
}


def test_heads_folded_into_the_batch() -> None:
    text = case(Q, K, V, FOLD, FOLDED_CORE, MERGE, batch=2)
    check(rewritten(FuseAttention(), text, FOLDED))


@pytest.mark.parametrize("rows", [1, 2 * HEADS])
def test_mask_on_folded_heads(rows: int) -> None:
    core = FOLDED_CORE.replace("p = Softmax<axis = -1>(s)", "t = Add(s, m) p = Softmax(t)")
    text = case(Q, K, V, FOLD, core, MERGE, batch=2)
    weights = {**FOLDED, "m": (rows, QUERIES, KEYS)}
    if rows == 1:
        check(rewritten(FuseAttention(), text, weights), op="Attention_mask")
    else:
        assert "Attention_mask" in rewritten(FuseAttention(), text, weights).ops


GUARDED = CORE.replace(
    "o = MatMul(p, vh)", "n = IsNaN(p) w = Where(n, nought, p) o = MatMul(w, vh)"
)


@pytest.mark.parametrize("scaling", SCALED)
def test_mask_on_scaled_scores(scaling: str) -> None:
    core = CORE.replace(
        "p = Softmax<axis = -1>(s)", f"{scaling} u = Add(t, mask) p = Softmax<axis = -1>(u)"
    )
    weights = {**WEIGHTS, "mask": (QUERIES, KEYS)}
    check(rewritten(FuseAttention(), case(Q, K, V, core, MERGE), weights), 0.5, op="Attention_mask")


def test_a_scaled_mask_is_refused() -> None:
    core = CORE.replace(
        "p = Softmax<axis = -1>(s)", "u = Add(s, mask) t = Mul(u, half) p = Softmax<axis = -1>(t)"
    )
    weights = {**WEIGHTS, "mask": (QUERIES, KEYS)}
    outcome = untouched(FuseAttention(), case(Q, K, V, core, MERGE), weights)
    assert any("scaled together" in remark.reason for remark in outcome.record.remarks)


MASKED = GUARDED.replace("p = Softmax<axis = -1>(s)", "t = Add(s, mask) p = Softmax<axis = -1>(t)")


def mask(*, with_empty_row: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    values = np.triu(np.full((QUERIES, KEYS), -np.inf, np.float32), 1)
    if with_empty_row:
        values[2] = -np.inf
    return values


def test_guard_goes_where_no_row_is_masked_out() -> None:
    weights = {**WEIGHTS, "mask": mask(with_empty_row=False)}
    check(rewritten(FuseAttention(), case(Q, K, V, MASKED, MERGE), weights), op="Attention_mask")
    check(rewritten(FuseAttention(), case(Q, K, V, GUARDED, MERGE), WEIGHTS))


def test_guard_stays_where_a_row_is_masked_out() -> None:
    weights = {**WEIGHTS, "mask": mask(with_empty_row=True)}
    outcome = untouched(FuseAttention(), case(Q, K, V, MASKED, MERGE), weights)
    assert "such rows" in outcome.missed


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("rows", [1, QUERIES])
@pytest.mark.parametrize("q", [Q, Q.replace("qh =", "qs =") + " qh = Mul(qs, angles)"])
def test_guard_of_a_mask_that_is_computed_is_a_factor(q: str, rows: int, batch: int) -> None:
    """Of rows without a key, which the mask has by construction, the result is zero."""
    body = "c = And(given, some) mask = Where(c, nought, low)", q, K, V, MASKED, MERGE
    some = np.ones((batch, 1, rows, KEYS), bool)
    some[-1, :, rows // 2] = False
    weights = {
        **WEIGHTS,
        "low": np.array(-np.inf, np.float32),
        "some": some,
        "angles": np.linspace(0.5, 1.5, DEPTH, dtype=np.float32),
    }
    if batch == rows == 1:
        body += ("z = Add(y, half)",)  # all is zero
        text = case(*body, extra=f", bool[{batch}, 1, {rows}, {KEYS}] given")
        text = text.replace("] y)", "] z)")
    else:
        text = case(*body, batch=batch, extra=f", bool[{batch}, 1, {rows}, {KEYS}] given")
    outcome = rewritten(FuseAttention(), text, weights)
    assert {"IsNaN", "Softmax"}.isdisjoint(outcome.ops)
    assert "Attention_mask" in outcome.ops


def test_guard_stays_where_each_head_has_a_mask_that_is_computed() -> None:
    text = case(Q, K, V, MASKED, MERGE, extra=f", float[1, {HEADS}, {QUERIES}, {KEYS}] mask")
    assert "each head has its own" in untouched(FuseAttention(), text, WEIGHTS).missed


@pytest.mark.parametrize("axis", [1, 2, -2])
def test_softmax_on_another_axis_is_refused(axis: int) -> None:
    core = CORE.replace("axis = -1", f"axis = {axis}")
    outcome = untouched(FuseAttention(), case(Q, K, V, core, MERGE), WEIGHTS)
    assert "not the last" in outcome.missed


@pytest.mark.parametrize(("tensor", "shape"), [("s", (QUERIES, KEYS)), ("p", (QUERIES, KEYS))])
def test_scores_that_are_used_elsewhere_are_refused(tensor: str, shape: tuple[int, int]) -> None:
    text = case(
        Q, K, V, CORE, MERGE, f"z = Relu({tensor})",
        outputs=f", float[1, {HEADS}, {shape[0]}, {shape[1]}] z",
    )  # fmt: skip
    assert "also used by" in untouched(FuseAttention(), text, WEIGHTS).missed


def test_softmax_as_right_operand_is_refused() -> None:
    core = "s = MatMul(qh, kh) p = Softmax<axis = -1>(s) o = MatMul(vh, p)"
    text = (
        "g (float[1, 6, 12] q, float[1, 6, 12] k, float[1, 6, 18] v) => (float[1, 6, 18] y) "
        f"{{ {Q} {K} {V} {core} {MERGE} }}"
    )
    weights = {**WEIGHTS, "merge": np.array([0, 0, 18])}
    assert "right operand" in untouched(FuseAttention(), text, weights).missed


def test_heads_left_interleaved_make_tokens() -> None:
    """Depth before heads in the split: the same shapes, other numbers."""
    q = "q4 = Reshape(q, turned) qh = Transpose<perm = [0, 3, 1, 2]>(q4)"
    weights = {**WEIGHTS, "turned": np.array([0, 0, DEPTH, HEADS])}
    outcome = rewritten(FuseAttention(), case(q, K, V, CORE, MERGE), weights)
    assert outcome.ops.count("Attention") == 1


def test_missing_merge() -> None:
    """The result keeps its heads apart: reshaped without being transposed."""
    outcome = rewritten(FuseAttention(), case(Q, K, V, CORE, "y = Reshape(o, merge)"), {
        **WEIGHTS, "merge": np.array([1, QUERIES, HEADS * V_DEPTH])
    })  # fmt: skip
    assert outcome.ops.count("Attention") == 1


HEADS_ALONE = (
    "g (float[{0}6, 4] q, float[{0}7, 4] k, float[{0}7, 5] v) => (float[{0}6, 5] y) {{ "
    "kt = Transpose<perm = {1}>(k) s = MatMul(q, kt) {2} "
    "p = Softmax<axis = -1>({3}) y = MatMul(p, v) }}"
)


@pytest.mark.parametrize(
    ("lead", "mask"),
    [
        *((lead, mask) for lead in ((), (3,), (2, 3)) for mask in ((), (7,), (6, 7))),
        ((3,), (3, 1, 7)),
        *(((2, 3), mask) for mask in ((3, 1, 7), (2, 1, 6, 7), (2, 3, 1, 7))),
    ],
)
def test_heads_without_tokens(lead: tuple[int, ...], mask: tuple[int, ...]) -> None:
    axes = [*range(len(lead)), len(lead) + 1, len(lead)]
    sizes = "".join(f"{size}, " for size in lead)
    add, scores = ("t = Add(s, mask)", "t") if mask else ("", "s")
    text = HEADS_ALONE.format(sizes, axes, add, scores)
    outcome = rewritten(FuseAttention(), text, {"mask": mask} if mask else {})
    (fused,) = (node for node in outcome.graph.nodes if node.op.startswith("Attention"))
    assert fused.get_int("num_heads") * fused.inputs[0].shape[0] == np.prod(lead)


GROUPED = (
    "g (float[1, 6, 16] q, float[1, 7, 8] k, float[1, 7, 6] v) => (float[1, 6, 12] y) {{ "
    "q4 = Reshape(q, split) qh = Transpose<perm = [0, 2, 1, 3]>(q4) {rotate_q} "
    "k4 = Reshape(k, few) ke = Transpose<perm = [0, 2, 1, 3]>(k4) {rotate_k} "
    "ku = Unsqueeze(kr, at) kg = Expand(ku, k_times) k5 = Reshape(kg, k_all) "
    "kh = Transpose<perm = [0, 1, 3, 2]>(k5) "
    "v4 = Reshape(v, few) ve = Transpose<perm = [0, 2, 1, 3]>(v4) vu = Unsqueeze(ve, at) "
    "vg = Expand(vu, v_times) vh = Reshape(vg, v_all) "
    "s = MatMul(qr, kh) p = Softmax<axis = -1>(s) o = MatMul(p, vh) "
    "ot = Transpose<perm = [0, 2, 1, 3]>(o) y = Reshape(ot, merge) }}"
)
PLAIN = {"rotate_q": "qr = Identity(qh)", "rotate_k": "kr = Identity(ke)"}
TURNED = {"rotate_q": "qr = Mul(qh, q_turn)", "rotate_k": "kr = Mul(ke, k_turn)"}


@pytest.mark.parametrize("form", [PLAIN, TURNED])
@pytest.mark.parametrize("at", [2, 1])
def test_keys_of_fewer_heads(form: dict[str, str], at: int) -> None:
    """Four heads of q, two of k and v: repeated one by one, or, behind axis 1, both by turns, which
    is another order of heads. Behind rotary embeddings there are no tokens."""
    weights: Weights = {
        "split": np.array([0, 0, 4, -1]),
        "few": np.array([0, 0, 2, -1]),
        "merge": np.array([0, 0, 12]),
        "at": np.array([at]),
        "k_times": np.array([1, 2, 2, 7, 4]),
        "v_times": np.array([1, 2, 2, 7, 3]),
        "k_all": np.array([1, 4, 7, 4]),
        "v_all": np.array([1, 4, 7, 3]),
        "q_turn": (1, 1, 6, 4),
        "k_turn": (1, 1, 7, 4),
    }
    outcome = rewritten(FuseAttention(), GROUPED.format(**form), weights)
    (fused,) = (node for node in outcome.graph.nodes if node.op.startswith("Attention"))
    grouped = at == 2
    assert fused.op == ("Attention_grouped" if grouped else "Attention")
    if form is PLAIN:
        assert ("Expand" in outcome.ops) != grouped
    assert fused.inputs[1].shape == ((1, 7, 8) if grouped else (1, 7, 16))
    if grouped:
        assert fused.get_int("num_key_heads") == 2


def test_heads_of_other_numbers_are_refused() -> None:
    text = (
        "g (float[3, 6, 4] q, float[1, 4, 7] k, float[3, 7, 5] v) => (float[3, 6, 5] y) "
        "{ s = MatMul(q, k) p = Softmax<axis = -1>(s) y = MatMul(p, v) }"
    )
    assert "other heads each" in untouched(FuseAttention(), text).missed


def test_sum_of_two_products_is_refused() -> None:
    core = CORE.replace(
        "p = Softmax<axis = -1>(s)", "r = MatMul(qh, kh) t = Add(s, r) p = Softmax<axis = -1>(t)"
    )
    assert "two products" in untouched(FuseAttention(), case(Q, K, V, core, MERGE), WEIGHTS).missed


def test_nonlinear_scores_are_refused() -> None:
    core = CORE.replace("p = Softmax<axis = -1>(s)", "t = Tanh(s) p = Softmax<axis = -1>(t)")
    assert (
        "come from Tanh" in untouched(FuseAttention(), case(Q, K, V, core, MERGE), WEIGHTS).missed
    )


def test_classifier_is_not_worth_a_remark() -> None:
    outcome = untouched(FuseAttention(), "g (float[2, 8] x) => (float[2, 8] y) { y = Softmax(x) }")
    assert outcome.record.remarks == ()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list(itertools.permutations(range(4)))),
    st.sampled_from(list(itertools.permutations(range(4)))),
)
def test_any_permutation_is_attention(q_perm: tuple[int, ...], merge_perm: tuple[int, ...]) -> None:
    """With all sizes equal every permutation is well-formed; values decide (in ``rewritten``)."""
    q = f"q4 = Reshape(q, split) qh = Transpose<perm = {list(q_perm)}>(q4)"
    merge = f"ot = Transpose<perm = {list(merge_perm)}>(o) y = Reshape(ot, merge)"
    text = (
        "g (float[3, 3, 9] q, float[3, 3, 9] k, float[3, 3, 9] v) => (float[3, 3, 9] y) "
        f"{{ {q} {K} {V} {CORE} {merge} }}"
    )
    weights = {**WEIGHTS, "merge": np.array([3, 3, 9])}
    outcome = rewritten(FuseAttention(), text, weights)
    assert outcome.ops.count("Attention") == 1
