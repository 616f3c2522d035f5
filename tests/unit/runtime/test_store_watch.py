from __future__ import annotations

import numpy as np

from edgefusion.runtime.isa import DType, Role, Space
from edgefusion.runtime.program import Operand, TensorRecord
from edgefusion.runtime.store_watch import part_of, reference_name
from edgefusion.runtime.tensor_numbers import steps_of


def test_the_part_of_a_reference_that_an_operand_views() -> None:
    """Rows 1 and 2, columns 1 to 3 of an INT16 tensor [4, 5] at address 640."""
    record = TensorRecord("x", DType.INT16, (4, 5), Role.ACTIVATION, 640, 40, steps_of(0.1))
    operand = Operand(0, Space.DRAM, 640 + 2 * 6, DType.INT16, (2, 3), (10, 2))
    exact = np.arange(20, dtype=np.float32)
    expected = exact.reshape(4, 5)[1:3, 1:4]
    np.testing.assert_array_equal(part_of(exact, record, operand), expected)
    stored = np.arange(20, dtype=np.int16)
    part_of(stored, record, operand)[...] = -1
    assert (stored.reshape(4, 5)[1:3, 1:4] == -1).all()
    assert (stored == -1).sum() == 6


def test_conversions_have_the_name_of_what_they_convert() -> None:
    assert reference_name("add_1:int16") == reference_name("add_1:fp16") == "add_1"
    assert reference_name("node:stage0") == "node:stage0"
