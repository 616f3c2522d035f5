"""A bundle whose networks and programs are read once, for those who time it many times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgefusion.compiler.bundle.bundle import Bundle

if TYPE_CHECKING:
    from edgefusion.compiler.network.network import Network
    from edgefusion.runtime.program import Program


@dataclass(frozen=True, slots=True)
class KeptBundle(Bundle):
    """A ``Bundle`` that keeps what it was asked for; programs once verified are not again."""

    _kept: dict[tuple[str, str], Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, bundle: Bundle) -> KeptBundle:
        """The same bundle; what is kept already stays."""
        if isinstance(bundle, KeptBundle):
            return bundle
        return cls(bundle.path, bundle.manifest, bundle.offsets)

    def network(self, component: str) -> Network:
        """As ``Bundle.network``."""
        made: Network = self._once("network", component, lambda: Bundle.network(self, component))
        return made

    def program(self, component: str, *, verify: bool = True) -> Program:
        """As ``Bundle.program``."""
        name = "verified program" if verify else "program"
        made: Program = self._once(
            name, component, lambda: Bundle.program(self, component, verify=verify)
        )
        return made

    def _once(self, what: str, component: str, make: Callable[[], Any]) -> Any:
        key = what, component
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]
