"""What detectors share that ask the network again: for a column of numbers that stand with the outputs."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch
from osr.errors import InputError
from osr.models.open_set_model import OpenSetModel


class NetworkAgain(Detector):
    """A detector for which an image passes the network more than once.

    Extraction calls `column_of` and stores what it gives as the array `column` of `Outputs`, which `_score`
    reads. `setting` is the key of params.yaml that says so.
    """

    column: ClassVar[str]
    setting: ClassVar[str]
    why_no_graph: ClassVar[str]

    @abstractmethod
    def column_of(self, model: OpenSetModel, images: Tensor) -> Tensor:
        """(B,) float64 of (B, C, H, W) uint8 images; the model is in eval mode and stays as it is."""

    def read(self, batch: Batch) -> Tensor:
        """(n,) float64, the stored column.

        Raises:
            InputError: the outputs were made without it.
        """
        values: Tensor = getattr(batch, self.column)
        if not values.shape[1]:
            raise InputError(
                f"{self.name} needs the network again, and these outputs were made without it: set "
                f"{self.setting} to true, or leave {self.name} out of detectors.enabled."
            )
        return values[:, 0]
