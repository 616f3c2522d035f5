"""Reference vectors: equal bytes for equal values, nothing but arrays, damage named."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.compiler.bundle.reference import ReferenceVectors, vectors_from_bytes
from edgefusion.runtime.errors import InputError

VECTORS = ReferenceVectors(
    {"/model/x:0": np.arange(6, dtype=np.float32).reshape(2, 3), "t": np.array(999)},
    {"..": np.array([True, False]), "empty": np.empty((0, 4), np.float16), "k": np.arange(3)},
)


def test_values_types_and_names_come_back() -> None:
    back = vectors_from_bytes(VECTORS.to_bytes())
    for before, after in ((VECTORS.inputs, back.inputs), (VECTORS.outputs, back.outputs)):
        assert list(before) == list(after)
        for name, value in before.items():
            assert after[name].dtype == value.dtype
            assert after[name].shape == value.shape
            np.testing.assert_array_equal(after[name], value)


def test_equal_values_give_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = VECTORS.to_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert VECTORS.to_bytes() == first


def test_objects_are_not_stored() -> None:
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        ReferenceVectors({"x": np.array([{}], dtype=object)}, {}).to_bytes()


@pytest.mark.parametrize("damage", [b"", b"PK", VECTORS.to_bytes()[:-40]])
def test_damage_is_named(damage: bytes) -> None:
    with pytest.raises(InputError, match=r"reference\.npz is damaged"):
        vectors_from_bytes(damage)
