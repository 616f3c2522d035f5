"""Models that break the rules of ONNX are refused by name, before a library crashes at them."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from edgefusion.compiler.graph.model_check import check_model
from edgefusion.runtime.errors import InputError, UnsupportedOpError
from tests.graph_cases import parse

TEXT = """g (float[2,6,8] x) => (float[2,6,8] y, float[2,3,8] h) {
    k = Constant<value_float = 2.0>()
    m = MatMul(x, w)
    y = Mul(m, k)
    h, i = Split<axis = 1, num_outputs = 2>(y) }"""


def model() -> onnx.ModelProto:
    return parse(TEXT, {"w": (8, 8)})


def node(changed: onnx.ModelProto, op: str) -> onnx.NodeProto:
    return next(each for each in changed.graph.node if each.op_type == op)


def test_a_valid_model_is_left_as_it_is() -> None:
    given = model()
    check_model(given)
    assert given == model()


def test_weights_in_a_file_are_not_looked_for() -> None:
    given = model()
    (weight,) = given.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="nowhere.bin")
    check_model(given)


CHANGES: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "an attribute that the operator has not": (
        lambda m: (
            node(m, "MatMul").attribute.add(name="axis", type=onnx.AttributeProto.INT, i=1) and None
        ),
        "Unrecognized attribute: axis",
    ),
    "an attribute of another type": (
        lambda m: node(m, "Split").attribute[0].CopyFrom(onnx.helper.make_attribute("axis", 1.5)),
        "Mismatched attribute type",
    ),
    "too few operands": (lambda m: node(m, "Mul").input.pop() and None, "input size 1"),
    "too many results": (lambda m: node(m, "Mul").output.append("z"), "output size 2"),
    "results that a Split does not have": (
        lambda m: setattr(node(m, "Split").attribute[1], "i", 1),
        "num_outputs = 1 and has 2 outputs",
    ),
    "a Constant without a value": (
        lambda m: node(m, "Constant").attribute.pop() and None,
        "Constant|attribute",
    ),
    "an operator that is none": (lambda m: setattr(node(m, "Mul"), "op_type", "Mull"), "Mull"),
    "an operand that nothing makes": (
        lambda m: node(m, "Mul").input.__setitem__(0, "nothing"),
        "nothing",
    ),
    "two makers of one tensor": (lambda m: node(m, "Mul").output.__setitem__(0, "m"), "'?m'?"),
    "too few bytes": (
        lambda m: setattr(m.graph.initializer[0], "raw_data", b"1234"),
        "has 4 bytes, expected 256",
    ),
    "a shape below zero": (
        lambda m: m.graph.initializer[0].dims.__setitem__(0, -1),
        r"shape \[-1, 8\]",
    ),
    "an unknown type": (
        lambda m: setattr(m.graph.initializer[0], "data_type", 99),
        "unknown type 99",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_breaks_the_rules_is_refused(what: str) -> None:
    change, reason = CHANGES[what]
    given = model()
    change(given)
    with pytest.raises((InputError, UnsupportedOpError), match=reason):
        check_model(given)


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "BOOL", "BFLOAT16", "FLOAT8E4M3FN", "DOUBLE"])
def test_bytes_are_counted_for_every_type(kind: str) -> None:
    number = onnx.TensorProto.DataType.Value(kind)
    given = model()
    count = 5
    nbytes = {"INT4": 3, "UINT4": 3, "BOOL": 5, "BFLOAT16": 10, "FLOAT8E4M3FN": 5, "DOUBLE": 40}
    tensor = onnx.TensorProto(
        name="t", data_type=number, dims=[count], raw_data=bytes(nbytes[kind])
    )
    given.graph.initializer.append(tensor)
    check_model(given)
    given.graph.initializer[-1].raw_data += b"0"
    with pytest.raises(InputError, match="initializer 't'"):
        check_model(given)
