"""The classifier: images -> (logits, features). Its head is linear on the features; its file rebuilds it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from osr.errors import InputError
from osr.models.backbones import build_backbone, feature_width
from osr.models.heads import HEADS
from osr.models.preprocess import ImageFormat, Preprocess
from osr.models.settings import ModelSettings


class OpenSetModel(nn.Module):
    """Backbone, neck and head.

    Args:
        settings: the `model` section of params.yaml.
        image_format: what the backbone sees.
        class_names: names of the K known classes, in label order.
    """

    def __init__(
        self, settings: ModelSettings, image_format: ImageFormat, class_names: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.settings, self.image_format, self.class_names = settings, image_format, class_names
        shape = {"channels": image_format.channels, "image_size": image_format.size}
        self.preprocess = Preprocess(image_format)
        self.backbone = build_backbone(
            settings.backbone.name,
            weights=settings.backbone.weights,
            small_image_stem=settings.backbone.small_image_stem,
            options=settings.backbone.options,
            **shape,
        )
        self.backbone.requires_grad_(requires_grad=not settings.backbone.frozen)
        width = feature_width(self.backbone, name=settings.backbone.name, **shape)
        self.neck: nn.Module = nn.Identity()
        if settings.neck.name == "linear":
            layers = (
                nn.Linear(width, settings.neck.width, bias=False),
                nn.BatchNorm1d(settings.neck.width),
                nn.ReLU(),
            )
            self.neck, width = nn.Sequential(*layers), settings.neck.width
        elif settings.neck.name == "tanh":
            self.neck = nn.Tanh()
        self.head = HEADS[settings.head.name](width, len(class_names), settings.head)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K + E) logits, extra classes last, and (B, D) features of (B, C, H, W) uint8 images."""
        return self.classify(self.preprocess(images))

    def classify(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The same of (B, C, H, W) float32 pixels as `preprocess` gives them."""
        features = self.head.embed(self.neck(self.backbone(pixels)))
        return self.head(features), features

    def train(self, mode: bool = True) -> Self:
        """Switch dropout and batch norm to training or back; a frozen backbone stays as it is judged."""
        super().train(mode)
        if self.settings.backbone.frozen:
            self.backbone.eval()
        return self

    def save(self, path: Path) -> None:
        """Write weights and what rebuilds the model as one safetensors file, whole or not at all."""
        description = {
            "settings": self.settings.model_dump(mode="json"),
            "image_format": asdict(self.image_format),
            "class_names": self.class_names,
        }
        # One metadata key: safetensors writes several in an order that changes from process to process.
        content = save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()},
            metadata={"osr": json.dumps(description, sort_keys=True)},
        )
        aside = path.with_suffix(".part")
        aside.write_bytes(content)
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Rebuild a model from its file, in eval mode.

        Never runs code from the file; a model with a class of your own imports the module that it names.

        Raises:
            InputError: no such file, a file that `save` did not write, or that another version wrote.
        """
        if not path.is_file():
            raise InputError(f"{path} is missing: run `dvc repro train` to make it.")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            raise InputError(f"{path} is damaged or no safetensors file: {error}.") from error
        if "osr" not in metadata:
            raise InputError(f"{path} was not written by osr: it does not say how to rebuild the model.")
        description = json.loads(metadata["osr"])
        try:
            model = cls._rebuilt(description)
        except (ValidationError, KeyError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else _settings_that_differ(error)
            raise _from_another_version(path, what) from error
        try:
            model.load_state_dict(state)
        except RuntimeError as error:  # it names each weight in a line
            raise _from_another_version(path, str(error).splitlines()[-1].strip(" \t.")) from error
        return model.eval()

    @classmethod
    def _rebuilt(cls, description: dict[str, Any]) -> Self:
        """The model that `save` described, without its weights."""
        backbone = description["settings"]["backbone"]
        if backbone["small_image_stem"] == "auto" and backbone["weights"] != "none":
            backbone["small_image_stem"] = False  # what auto meant for weights that the file now replaces
        backbone["weights"] = "none"
        shape = description["image_format"]
        image_format = ImageFormat(
            shape["size"], shape["channels"], tuple(shape["mean"]), tuple(shape["std"])
        )
        settings = ModelSettings.model_validate(description["settings"])
        return cls(settings, image_format, tuple(description["class_names"]))


def _from_another_version(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} was written by another version of osr or of your own class ({what}): "
        "run `dvc repro --force train` to make it anew."
    )


def _settings_that_differ(error: ValidationError) -> str:
    """The keys of section `model` that are missing, unknown or have no valid value."""
    keys = ", ".join(".".join(map(str, ("model", *found["loc"]))) for found in error.errors())
    return f"other settings: {keys}"
