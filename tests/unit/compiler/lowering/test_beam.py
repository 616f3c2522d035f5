"""The beam: what it keeps, and that it refuses nothing that it would keep."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from edgefusion.compiler.lowering.beam import New, Reached, State

BYTES = {"a": 1, "b": 2, "c": 2, "d": 5}


def held(residents: Sequence[New]) -> int:
    return sum(BYTES[root] for root, _, _ in residents)


def reached(*states: State) -> Reached:
    found = Reached(held, lambda nbytes: 0.7 * nbytes, width=3)
    for state in states:
        found.enter(state)
    return found


def state(cost: float, *roots: str, start: int = 0) -> State:
    return State(cost, tuple((root, 9, True) for root in roots), ops=(start, 9))


def test_of_the_same_residents_the_cheapest_is_kept() -> None:
    dear, cheap = state(5, "a"), state(4, "a")
    assert reached(dear, cheap).kept() == [cheap]
    assert not reached(cheap).may_keep(4.5, dear.residents)
    assert reached(dear).may_keep(4.5, cheap.residents)


def test_room_and_low_cost_are_kept_beside_what_promises_most() -> None:
    promising = [state(10, "d", root) for root in "abc"]
    roomy, cheapest = state(30), state(9.5, "a", "b")
    assert reached(roomy, cheapest, *promising).kept() == [
        *promising[1:],
        promising[0],
        roomy,
        cheapest,
    ]
    crowd = reached(*promising)
    assert crowd.may_keep(30, roomy.residents)
    assert crowd.may_keep(9.5, cheapest.residents)
    assert not reached(roomy, cheapest, *promising).may_keep(20, state(20, "a").residents)


def test_of_equal_costs_the_longest_last_group_goes_first() -> None:
    short, long = state(4, "a", start=8), state(4, "a", start=6)
    assert reached(short, long).kept() == [long]


STATES = st.builds(
    lambda cost, roots, start: state(cost, *sorted(roots), start=start),
    st.integers(0, 12).map(float),
    st.sets(st.sampled_from(sorted(BYTES))),
    st.integers(4, 8),
)


@given(st.lists(STATES, max_size=8), STATES, st.integers(0, 3), st.lists(STATES, max_size=4))
def test_what_is_refused_would_not_be_kept(
    before: list[State], refused: State, slack: int, after: list[State]
) -> None:
    if not reached(*before).may_keep(refused.cost - slack, refused.residents):
        assert refused not in reached(*before, refused, *after).kept()
