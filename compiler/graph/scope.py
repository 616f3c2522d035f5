"""Module paths of nodes: what exporters write, and what fused nodes share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def exported_scope(props: Mapping[str, str]) -> str:
    """The module path of a node: key ``origin``, else PyTorch's list of name scopes.

    PyTorch's list goes from the outermost module to the op itself, each with its full path; the
    last but one is the module.
    """
    if "origin" in props:
        return props["origin"]
    text = props.get("pkg.torch.onnx.name_scopes", "")
    scopes = [part.strip(" '\"") for part in text.strip("[]").split(",")]
    return scopes[-2] if len(scopes) > 1 else ""


def common_scope(scopes: Sequence[str]) -> str:
    """The longest module path that ``scopes`` share.

    Scopes that are unknown do not count, nor do those outside the top-level module that most lie
    in: nodes that an exporter's optimizer made carry no module of the model.

    >>> common_scope(["down.0.attn1.to_q", "down.0.attn1", ""])
    'down.0.attn1'
    """
    paths = [scope.split(".") for scope in scopes if scope]
    tops = Counter(path[0] for path in paths).most_common()
    if not tops or (len(tops) > 1 and tops[0][1] == tops[1][1]):
        return ""
    paths = [path for path in paths if path[0] == tops[0][0]]
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)
