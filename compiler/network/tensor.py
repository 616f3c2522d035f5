"""A tensor of the network: a name, a shape, what the NPU stores, and what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from edgefusion.runtime.isa import DType, Role


@dataclass(frozen=True, slots=True)
class NetTensor:
    """A tensor of the network.

    ``dtype`` is what the NPU stores. Constants (role WEIGHT or TABLE) name their values by
    ``constant``, the key in the bundle's weights; ``scale_tensor`` names the tensor (FP32, role
    TABLE) with the per-channel scales of an INT8 weight. Scales of INT16 activations are measured
    (``network.scales``) and stand in the program; the elements of a ``row_normalised`` tensor have
    none, but are exponentials, to be divided by the sums of their rows.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    role: Role = Role.ACTIVATION
    constant: str = ""
    scale_tensor: str = ""
    row_normalised: bool = False

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes when stored densely."""
        return self.elements * self.dtype.nbytes


Tensors = Mapping[str, NetTensor]


def statistics_dtype(activation: DType) -> DType:
    """Sums of integer activations are exact integers, those of others FP32."""
    return DType.INT64 if activation == DType.INT16 else DType.FP32
