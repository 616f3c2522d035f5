"""What a bundle says of its host functions (``<component>/host.json``): signatures and library.

Values only. A function takes its ``inputs`` in order, then its ``constants`` (keys of the bundle's
weights, too large to be part of the code), and gives its ``outputs``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.validation import Whole, validated

SCHEMA_VERSION = 1

Array = npt.NDArray[Any]
HostFunction = Callable[[Sequence[Array]], Sequence[Array]]
"""Real numbers in and out, as ``runtime.executor`` passes them."""


@dataclass(frozen=True, slots=True)
class HostTensor:
    """An operand. Where ``extent`` is not 0, its values are indices in [-extent, extent). Where it
    is ``divided``, they are not the least integer: divided by -1, that would end the process."""

    name: str
    shape: tuple[Whole, ...]
    dtype: str
    extent: Whole = 0
    divided: bool = False


@dataclass(frozen=True, slots=True)
class HostSignature:
    """A host function. ``refusal`` says why the library lacks it; '' if it is there."""

    name: str
    inputs: tuple[HostTensor, ...]
    constants: tuple[HostTensor, ...]
    outputs: tuple[HostTensor, ...]
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class HostTarget:
    """What a library was compiled by and for; ``cpu`` is LLVM's name of the least CPU it needs."""

    tvm_version: str
    triple: str
    cpu: str


@dataclass(frozen=True, slots=True)
class HostManifest:
    """All of a component's host functions. ``target`` is None where there is no library, for the
    reason in ``remark``."""

    functions: tuple[HostSignature, ...]
    target: HostTarget | None
    remark: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def host_manifest_from_json(data: object) -> HostManifest:
    """The inverse of ``to_json``. Raises InputError for a newer version, and for damage."""
    version = data.get("schema_version", 0) if isinstance(data, dict) else 0
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"host.json has version {version}, this tool reads {SCHEMA_VERSION}. "
            "Update the tool, or compile the model again with this one."
        )
    return validated(HostManifest, data, "host.json is damaged", "Compile the model again.")


def fitted(function: str, tensor: HostTensor, value: Array) -> Array:
    """``value`` in the shape and type that ``function`` wants, dense.

    Raises InputError for another number of elements, for indices out of bounds, and for an integer
    that must not be divided.
    """
    array = np.asarray(value)
    if array.size != int(np.prod(tensor.shape, dtype=np.int64)):
        raise InputError(
            f"host function {function}: expected '{tensor.name}' of shape {list(tensor.shape)}, "
            f"got {list(array.shape)}"
        )
    if tensor.extent and array.size:
        lowest, highest = int(array.min()), int(array.max())
        if lowest < -tensor.extent or highest >= tensor.extent:
            raise InputError(
                f"host function {function}: '{tensor.name}' holds indices from {lowest} to "
                f"{highest}; expected [{-tensor.extent}, {tensor.extent - 1}]"
            )
    if tensor.divided and (array == np.iinfo(tensor.dtype).min).any():
        raise InputError(
            f"host function {function}: '{tensor.name}' holds {np.iinfo(tensor.dtype).min}, the "
            f"least {tensor.dtype}, which has no quotient by -1; expected larger integers"
        )
    return np.asarray(array.reshape(tensor.shape), dtype=tensor.dtype, order="C")


def arguments(signature: HostSignature, values: Sequence[Array]) -> list[Array]:
    """The checked inputs of one call, in order. Raises InputError where they do not fit."""
    if len(values) != len(signature.inputs):
        raise InputError(
            f"host function {signature.name}: expected {len(signature.inputs)} inputs, got "
            f"{len(values)}"
        )
    return [fitted(signature.name, t, v) for t, v in zip(signature.inputs, values, strict=True)]


def constant_arguments(signature: HostSignature, constants: Mapping[str, Array]) -> list[Array]:
    """The constants that a function takes after its inputs. InputError if one is missing."""
    missing = [t.name for t in signature.constants if t.name not in constants]
    if missing:
        raise InputError(
            f"host function {signature.name} needs the constant {missing[0]!r}, which is not in "
            "the bundle. Compile the model again."
        )
    return [fitted(signature.name, t, np.asarray(constants[t.name])) for t in signature.constants]
