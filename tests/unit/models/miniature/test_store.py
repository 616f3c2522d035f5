from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgefusion.models.miniature.store import Step, Store


def test_a_step_is_done_once(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(place: Path) -> dict[str, Any]:
        calls.append(place)
        return {"value": len(calls)}

    store, step = Store(tmp_path), Step("some/step", {"steps": 3})
    assert [store.result(step, make)["value"] for _ in range(2)] == [1, 1]
    assert store.result(Step("some/step", {"steps": 4}), make) == {"value": 2}
    assert len({*calls}) == 2


def test_keys_depend_on_all_ancestors() -> None:
    def chain(settings: dict[str, Any]) -> str:
        return Step("c", {}, (Step("b", {}, (Step("a", settings),)),)).key

    assert chain({"seed": 0}) == chain({"seed": 0})
    assert chain({"seed": 0}) != chain({"seed": 1})


def test_a_step_that_fails_leaves_no_result(tmp_path: Path) -> None:
    store, step = Store(tmp_path), Step("step", {})

    def fail(place: Path) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.result(step, fail)
    assert store.result(step, lambda _place: {"done": True}) == {"done": True}


def test_networks_come_back_as_they_were_trained(tmp_path: Path) -> None:
    store, step = Store(tmp_path), Step("network", {})
    trained = nn.Linear(3, 2)
    for empty in (nn.Linear(3, 2), nn.Linear(3, 2)):
        found = store.network(step, empty, lambda _place: trained)
        torch.testing.assert_close(found.weight.data, trained.weight.data, rtol=0, atol=0)
        assert not found.weight.requires_grad
