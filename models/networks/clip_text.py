"""CLIP's text transformer: token ids to hidden states, and to a pooled embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgefusion.models.config_file import is_count
from edgefusion.models.networks.kind import CONTEXT_TOKENS, NetworkKind, Port, Signature, Sizes

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.config_file import ConfigFile


class ClipText(NetworkKind):
    """``input_ids`` int64 [N, tokens] -> ``hidden_states`` [N, tokens, width].

    After the final norm, or, if ``penultimate``, those that enter the last layer.
    """

    class_name: ClassVar[str] = "CLIPTextModel"
    library: ClassVar[Literal["diffusers", "transformers"]] = "transformers"

    def __init__(self, *, penultimate: bool = False) -> None:
        self.penultimate = penultimate

    def check(self, config: ConfigFile) -> None:
        """See the base class."""
        positions = config.values.get("max_position_embeddings", CONTEXT_TOKENS)
        if not is_count(positions) or positions < 2:
            raise config.error(
                "max_position_embeddings",
                f"expected a whole number, the tokens of a prompt ({CONTEXT_TOKENS} in CLIP), with "
                "two marks. Correct it, or download the text encoder again.",
                positions,
            )

    def graph(self, part: nn.Module) -> nn.Module:
        """See the base class."""
        from edgefusion.models.graph_modules import ClipTextGraph

        return ClipTextGraph(part, penultimate=self.penultimate)

    def signature(self, config: Any, sizes: Sizes, batch: int = 1) -> Signature:
        """See the base class."""
        tokens = min(config.max_position_embeddings, sizes.context_tokens)
        hidden = Port("hidden_states", (batch, tokens, config.hidden_size))
        return Signature((Port("input_ids", (batch, tokens), "int64"),), (hidden,))

    def exported_name(self, port: str, config: Any, /) -> str:
        """See the base class."""
        if port != "hidden_states":
            return port
        before_last = f"hidden_states.{config.num_hidden_layers - 1}"
        return before_last if self.penultimate else "last_hidden_state"


class ClipTextWithProjection(ClipText):
    """As ``ClipText``, and ``text_embeds`` [N, projected width] of the end mark's state."""

    class_name: ClassVar[str] = "CLIPTextModelWithProjection"

    def graph(self, part: nn.Module) -> nn.Module:
        """See the base class."""
        from edgefusion.models.graph_modules import ClipTextProjectionGraph

        return ClipTextProjectionGraph(part, penultimate=self.penultimate)

    def signature(self, config: Any, sizes: Sizes, batch: int = 1) -> Signature:
        """See the base class."""
        plain = super().signature(config, sizes, batch)
        pooled = Port("text_embeds", (batch, config.projection_dim))
        return Signature(plain.inputs, (*plain.outputs, pooled))
