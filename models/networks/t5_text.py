"""T5's encoder: token ids to hidden states, and which of them are a prompt's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgefusion.models.networks.kind import NetworkKind, Port, Signature, Sizes

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.config_file import ConfigFile

_PADDING = 0
"""T5's, where its configuration states none."""


class T5Text(NetworkKind):
    """``input_ids`` int64 [N, tokens] -> ``hidden_states`` [N, tokens, width], and, if ``masked``,
    ``attention_mask`` [N, tokens]: 1 for tokens of the prompt, 0 for what pads it, which is then
    not attended to.

    Positions are relative, so it takes any number of tokens.
    """

    class_name: ClassVar[str] = "T5EncoderModel"
    library: ClassVar[Literal["diffusers", "transformers"]] = "transformers"

    def __init__(self, *, masked: bool = True) -> None:
        self.masked = masked

    def check(self, config: ConfigFile) -> None:
        """See the base class."""
        padding = config.values.get("pad_token_id", _PADDING)
        if isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
            raise config.error(
                "pad_token_id",
                "expected a whole number, the token that prompts are padded with (0 in T5). "
                "Correct it, or download the text encoder again.",
                padding,
            )

    def padding(self, config: ConfigFile) -> int | None:
        """See the base class."""
        if not self.masked:
            return None
        found: int = config.values.get("pad_token_id", _PADDING)
        return found

    def graph(self, part: nn.Module) -> nn.Module:
        """See the base class."""
        from edgefusion.models.graph_modules import T5TextGraph

        config: Any = part.config
        return T5TextGraph(part, config.pad_token_id if self.masked else None)

    def signature(self, config: Any, sizes: Sizes, batch: int = 1) -> Signature:
        """See the base class."""
        tokens = (batch, sizes.context_tokens)
        hidden = Port("hidden_states", (*tokens, config.d_model))
        mask = (Port("attention_mask", tokens),) if self.masked else ()
        return Signature((Port("input_ids", tokens, "int64"),), (hidden, *mask))
