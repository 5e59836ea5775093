"""Local weights of a backbone, in the shapes people have them; reading them never runs stored code."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from osr.errors import InputError
from osr.settings.sentences import listed
from osr.stored.files import read_header

logger = logging.getLogger("osr")

# Of several sets of weights in one file the first of these is taken: averages are what was evaluated, and a
# teacher is an average of its student.
WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "teacher", "state_dict", "model", "net")
_LFS_POINTER = b"version https://git-lfs"
_COUNTER = "num_batches_tracked"  # of batch norm, which older files lack and evaluation does not read
# What a name may begin with that the network has no place for: classifiers, and a token of pretraining alone.
HEADS = ("fc", "head", "heads", "head_dist", "classifier", "last_linear", "linear", "logits", "mask_token")
_NAMED = 3  # tensors in an error


class _Found(NamedTuple):
    """A set of weights in a file: what wraps it, what its names begin with, and its tensors by our names.

    Beside them stands what is left over: names that the network has no place for and that are of no
    classifier.
    """

    wrapper: str
    prefix: str
    tensors: dict[str, Tensor]
    left_over: tuple[str, ...]


def first_not_finite(tensors: Mapping[str, Tensor], built: Mapping[str, Tensor]) -> str | None:
    """The first tensor with a NaN or an infinity that the network was not built with; None if there is none.

    Bounds of a network that do not bind are infinite by design (timm's gemma4_vit).

    Args:
        tensors: from a file.
        built: those of the network before these are loaded; names may lack.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            same = name in built and tensor.shape == built[name].shape
            if not same or bool((~tensor.isfinite() & (tensor != built[name])).any()):
                return name
    return None


def load_weights(backbone: nn.Module, path: Path, name: str) -> None:
    """Give a backbone the weights of a file.

    The file holds tensors by name, or a checkpoint with such a dict in it. What all names begin with
    (`module.`, `backbone.`, `model.`, `_orig_mod.` and the like) is stripped; from below which key they were
    taken, and what was stripped, is logged in one line.

    Args:
        backbone: with the names and shapes that are wanted. Classifiers, and what stands beside the network
            in a larger model, are passed over.
        path: a .safetensors file, or anything that torch.save wrote.
        name: of the backbone, for the error.

    Raises:
        InputError: no such file, one that holds more than weights, or weights that are of another network,
            of a larger one, or not finite.
    """
    own = backbone.state_dict()
    sets = list(_tensor_dicts(_read(path)))
    found = [fit for wrapper, tensors in sets for fit in _fits(wrapper, tensors, own)]
    if not found:
        raise _misfit(path, name, dict(sets), own)
    chosen = min(found, key=_rank)
    if chosen.left_over:
        raise _too_many(path, name, chosen.left_over)
    if bad := first_not_finite(chosen.tensors, own):
        raise InputError(f"model.backbone.weights {str(path)!r}: {bad!r} holds values that are not finite.")
    others = {fit.wrapper for fit in found} - {chosen.wrapper}
    if chosen.wrapper or chosen.prefix or others:
        stripped = f", without the prefix {chosen.prefix!r} of its names" if chosen.prefix else ""
        beside = f" (not {', '.join(sorted(others))})" if others else ""
        what = chosen.wrapper or "the weights"
        logger.info("model.backbone.weights %s: took %s%s%s", path, what, beside, stripped)
    backbone.load_state_dict({**own, **chosen.tensors})


def _read(path: Path) -> Any:
    """What the file holds: tensors, numbers, texts, and containers of these."""
    told = f"model.backbone.weights {str(path)!r}"
    if not path.is_file():
        raise InputError(f"model.backbone.weights is {str(path)!r}: no such file; or use none or pretrained.")
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise InputError(f"{told} is a pointer of Git LFS, not the file: run `git lfs pull` there.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        if objects := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise InputError(
                f"{told} holds objects of {objects[1]} beside weights, and reading these could run code: "
                "save its state_dict() alone."
            ) from error
        raise InputError(
            f"{told} cannot be read as weights: it must be a .safetensors, or what torch.save made of a "
            "state_dict() alone."
        ) from error


def _tensor_dicts(content: Any, wrapper: str = "") -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """The dicts of tensors in a checkpoint, by the key that holds them; the file itself has no key."""
    if not isinstance(content, Mapping):
        return
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield wrapper, tensors
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _tensor_dicts(value, str(key))


def _fits(wrapper: str, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Iterator[_Found]:
    """The prefixes under which the dict holds every tensor of ours in its shape."""
    wanted = [key for key in own if not key.endswith(_COUNTER)]
    if not wanted:
        return
    for prefix in (key.removesuffix(wanted[0]) for key in tensors if key.endswith(wanted[0])):
        held = {key: tensors[prefix + key] for key in own if prefix + key in tensors}
        if all(key in held and held[key].shape == own[key].shape for key in wanted):
            inside = (key.removeprefix(prefix) for key in tensors if key.startswith(prefix))
            left_over = tuple(key for key in inside if key not in own and not _is_passed_over(key))
            yield _Found(wrapper, prefix, held, left_over)


def _is_passed_over(key: str) -> bool:
    return key.endswith(_COUNTER) or key.split(".")[0] in HEADS


def _rank(found: _Found) -> tuple[bool, int, int]:
    position = WRAPPERS.index(found.wrapper) if found.wrapper in WRAPPERS else len(WRAPPERS)
    return bool(found.left_over), position, len(found.prefix)


def description_of(path: Path) -> dict[str, Any] | None:
    """What `OpenSetModel.save` wrote beside its weights; None for a file from elsewhere or no file at all."""
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            is_ours = "osr" in (file.metadata() or {})
    except SafetensorError:  # load_weights says what is wrong
        return None
    return read_header(path, "weights").content if is_ours else None


def _too_many(path: Path, name: str, left_over: tuple[str, ...]) -> InputError:
    return InputError(
        f"model.backbone.weights {str(path)!r} holds {len(left_over)} tensors that {name} has no place for: "
        f"{listed(left_over, _NAMED)}; they are of another network, likely a larger one."
    )


def _misfit(
    path: Path, name: str, sets: Mapping[str, Mapping[str, Tensor]], own: Mapping[str, Tensor]
) -> InputError:
    """Why no set of the file fits, told of the one that comes closest."""
    told = f"model.backbone.weights {str(path)!r}"
    if not sets:
        return InputError(f"{told} holds no state dict: no tensor by name.")
    tensors = max(sets.values(), key=lambda held: len(held.keys() & own.keys()))
    missing = [key for key in own if key not in tensors]
    wrong = [key for key in own if key in tensors and tensors[key].shape != own[key].shape]
    return InputError(
        f"{told} does not fit {name}: {len(missing)} tensors missing, {len(wrong)} of another shape, first "
        f"{(missing + wrong)[0]!r}."
    )
