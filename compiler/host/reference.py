"""Whether ONNX Runtime, the reference of every host function, loads and computes each of them.

Asked when a component is compiled: a function that it lacks would otherwise fail at the first run.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import onnx

from edgefusion.compiler.frontend.placement import HostGroup
from edgefusion.compiler.graph.graph import Node
from edgefusion.compiler.host.draws import draws
from edgefusion.compiler.host.functions import HostModel
from edgefusion.runtime.errors import InputError, UnsupportedOpError
from edgefusion.runtime.host_ort import ort_function

_NAMED = 3
"""Of a group at fault as a whole, so many nodes are named."""


def check_reference(group: HostGroup, host: HostModel) -> None:
    """Load and run ``host``, which is ``group``'s, in ONNX Runtime, once.

    Raises UnsupportedOpError, naming the node, if it can do so from none of several random inputs.
    """
    signature = host.signature
    zeros = {t.name: np.zeros(t.shape, t.dtype) for t in signature.constants}
    problem: InputError | None = None
    try:
        compute = ort_function(signature, host.model, zeros)
        for feed in draws(signature.inputs, onnx.ModelProto.FromString(host.model)):
            try:
                compute([feed[tensor.name] for tensor in signature.inputs])
            except InputError as error:
                problem = problem or error
            else:
                return
    except InputError as error:
        problem = error
    assert problem is not None
    at_fault = _named_in(str(problem), group.nodes)
    reasons = dict(zip(group.nodes, group.reasons, strict=True))
    why = "; ".join(dict.fromkeys(reasons[node] for node in at_fault))
    what = ", ".join(
        f"{node.op} '{node.name}' (from {', '.join(node.origin)})"
        for node in islice(at_fault, _NAMED)
    )
    raise UnsupportedOpError(
        f"{what} can run neither on the NPU, for {why}, nor on the host: {problem}. Export the "
        "model with operators and types that ONNX Runtime has for a CPU"
    )


def _named_in(message: str, nodes: Sequence[Node]) -> Sequence[Node]:
    """The nodes that ``message`` is about; all of them if it names none."""
    named = [n for n in nodes if f"'{n.name}'" in message or f"({n.name})" in message]
    return named or nodes
