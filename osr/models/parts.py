"""A whole classifier in two: what stands before its last linear layer, and that layer."""

from __future__ import annotations

from torch import nn

from osr.errors import InputError


def last_linear(network: nn.Module, name: str, classifier: str) -> tuple[str, nn.Linear]:
    """Name and module of the layer that `model.backbone.classifier` names; auto is the last one.

    Raises:
        InputError: there is none.
    """
    found = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear) and name}
    chosen = list(found)[-1] if classifier == "auto" and found else classifier
    if chosen not in found:
        raise InputError(
            f"model.backbone.classifier is {classifier!r}, but must be auto or a linear layer of {name}: "
            f"{', '.join(list(found)[-3:]) or 'it has none'}."
        )
    return chosen, found[chosen]


def without_classifier(network: nn.Module, name: str, classifier: str) -> nn.Module:
    """The network in place, its last linear layer passed through: its output are the features."""
    parent, _, child = last_linear(network, name, classifier)[0].rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return network
