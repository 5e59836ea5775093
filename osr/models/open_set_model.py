"""The classifier: images -> (logits, features). Its head is linear on the features; its file rebuilds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from osr.errors import InputError
from osr.models.backbones import build_backbone, feature_width
from osr.models.computing import Computing
from osr.models.description import Description
from osr.models.heads import HEADS
from osr.models.necks import build_neck
from osr.models.preprocess import ImageFormat, Preprocess
from osr.models.rotations import NUM_TURNS
from osr.models.settings import ModelSettings
from osr.models.weight_files import first_not_finite
from osr.settings.own_code import Allowed, check_allowed
from osr.stored.arrays import read_tensors, write_tensors
from osr.stored.files import checked, damaged
from osr.stored.makers import maker
from osr.stored.origin import Origin


class OpenSetModel(nn.Module):
    """Backbone, neck and head; with `model.rotation_head` a second head tells quarter turns of an image.

    Args:
        settings: the `model` section of params.yaml.
        image_format: what the backbone sees.
        class_names: names of the K known classes, in label order.
        made_from: digest of the split it is trained on, if there is one.
        computing: how it computes when it learns nothing.
    """

    def __init__(
        self,
        settings: ModelSettings,
        image_format: ImageFormat,
        class_names: tuple[str, ...],
        *,
        made_from: Origin = Origin(),  # noqa: B008 (frozen)
        computing: Computing = Computing(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        self.settings, self.image_format, self.class_names = settings, image_format, class_names
        self.made_from, self.computing = made_from, computing
        self.digest: str | None = None  # of the file that holds these weights
        shape = {"channels": image_format.channels, "image_size": image_format.size}
        self.preprocess = Preprocess(image_format)
        self.backbone = build_backbone(
            settings.backbone.name,
            weights=settings.backbone.weights,
            small_image_stem=settings.backbone.small_image_stem,
            classifier=settings.backbone.classifier,
            options=settings.backbone.options,
            **shape,
        )
        self._still: tuple[nn.Module, ...] = ()
        width = feature_width(self.backbone, name=settings.backbone.name, **shape)
        self.neck, width = build_neck(settings.neck, width)
        self.head = HEADS[settings.head.name](width, len(class_names), settings.head)
        self.rotation = nn.Linear(width, NUM_TURNS) if settings.rotation_head else None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K + E) logits, extra classes last, and (B, D) features of (B, C, H, W) uint8 images."""
        return self.classify(self.preprocess(images))

    def classify(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The same of (B, C, H, W) float32 pixels as `preprocess` gives them."""
        return self.judge(self.embed(pixels))

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, D) vectors behind the neck, of (B, C, H, W) float32 pixels."""
        vectors: Tensor = self.neck(self.backbone(pixels))
        return vectors

    def judge(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K + E) logits and (B, D') features of (B, D) vectors behind the neck."""
        features = self.head.embed(vectors)
        return self.head(features), features

    def turns(self, vectors: Tensor) -> Tensor:
        """(N, 4) logits of the quarter turns 0, 1, 2 and 3, of (N, D) vectors behind the neck.

        Raises:
            InputError: a network without `model.rotation_head`.
        """
        if self.rotation is None:
            raise InputError("This network has no second head for quarter turns: see model.rotation_head.")
        logits: Tensor = self.rotation(vectors)
        return logits

    def freeze(self, parts: Iterable[nn.Module]) -> None:
        """Let modules of the backbone learn nothing; their dropout and norms stay as they are judged."""
        self._still = tuple(parts)
        for part in self._still:
            part.requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> Self:
        """Switch dropout and batch norm to training or back; what is frozen stays as it is judged."""
        super().train(mode)
        if mode:
            self.digest = None  # weights that are trained are no longer those of the file
        for part in self._still:
            part.eval()
        return self

    def save(self, path: Path) -> None:
        """Write weights and what rebuilds the model as one safetensors file, whole or not at all."""
        settings = self.settings.model_dump(mode="json")
        settings["backbone"]["small_image_stem"] = bool(getattr(self.backbone, "has_small_stem", False))
        description = {
            "settings": settings,
            "image_format": asdict(self.image_format),
            "computing": asdict(self.computing),
            "class_names": self.class_names,
        }
        self.digest = write_tensors(path, "weights", description, self.made_from, self.state_dict())

    @classmethod
    def load(cls, path: Path, *, allow_code: Allowed = None) -> Self:
        """Rebuild a model from its file, in eval mode.

        Never runs code from the file. A network of a class of somebody's own needs its module, which is
        imported if `allow_code` names it, and not otherwise.

        Args:
            path: what `save` wrote.
            allow_code: each `module:Class` that may be imported, such as `model.backbone.name` of your own
                params.yaml; None for none.

        Raises:
            InputError: no such file, a file that `save` did not write, that was changed, or that another
                version wrote; or one that asks for other code.
        """
        stored, state = read_tensors(path, "weights")
        description = checked(path, Description, stored.content)
        check_allowed(path, description.settings.backbone.name, allow_code)
        try:
            model = cls(
                description.bare_settings,
                description.format,
                description.class_names,
                made_from=stored.made_from,
                computing=description.computed,
            )
        except (ValueError, RuntimeError, TypeError, ArithmeticError, MemoryError) as error:
            raise damaged(path, f"no network can be built of it: {error}") from error
        endless = {name: held.clone() for name, held in model.state_dict().items() if held.isinf().any()}
        try:
            model.load_state_dict(state)
        except RuntimeError as error:  # it names each weight in a line
            raise _from_another_version(path, str(error).splitlines()[-1].strip(" \t.")) from error
        _check_kinds(path, state, model.state_dict())
        if bad := first_not_finite(state, endless):
            raise damaged(path, f"{bad} holds values that are not finite")
        model.digest = stored.digest
        return model.eval()

    @property
    def origin(self) -> Origin:
        """What is made with this model is made from this; of no weights while they are not in a file."""
        return Origin(split=self.made_from.split, weights=self.digest)


def _from_another_version(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} was written by another version of osr or of your own class ({what}): {maker().weights}"
    )


def _check_kinds(path: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse weights of another kind of number, which torch would convert."""
    for name, tensor in state.items():
        if tensor.is_floating_point() != own[name].is_floating_point():
            raise damaged(path, f"{name} holds {tensor.dtype}, but must hold {own[name].dtype}")
