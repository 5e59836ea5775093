"""The deployed classifier as one graph: pixels of any size in, verdicts out. Higher score = more unknown."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from osr.calibration.calibrators import Calibration, Isotonic, Temperature, Vector
from osr.detectors.base import Detector
from osr.detectors.registry import network_again_of
from osr.detectors.selection import argmax
from osr.detectors.tracing import Traced
from osr.errors import InputError
from osr.frame import Frame
from osr.inference.parts import Parts
from osr.outputs import UNKNOWN
from osr.resampling import weights

ANSWERS = ("label", "score", "probabilities", "prediction")
MAX_BANK = 1 << 26  # numbers a detector may hold: 256 MB of float32


class ClassifierGraph(nn.Module):
    """All that `OpenSetClassifier.judge` does with one detector, for `torch.export` to record.

    Network, detector and decision are the code of the library. What stands here again, compared by tests, are
    the calibrations, which the library has in numpy, and the resize, whose weights the graph makes.

    Args:
        parts: of the run; the network computes in float32.
        detector: which of them judges.

    Raises:
        InputError: the detector asks for gradients or holds too much, or the network computes in bfloat16.
    """

    def __init__(self, parts: Parts, detector: str) -> None:
        super().__init__()
        self.detector: Detector = parts.detectors[detector][0]
        check_recordable(self.detector)
        if parts.model.computing.in_bfloat16:
            raise InputError(
                "The network computes in bfloat16, which other runtimes round otherwise: set "
                "extraction.precision to 32-true and repeat the run to export a graph."
            )
        self.model = parts.model.eval().requires_grad_(False)  # or answers of its program ask for gradients
        self.calibration = parts.calibration
        self.fit = Fit(parts.model.image_format.frame)

    def forward(self, images: Tensor, threshold: Tensor) -> dict[str, Tensor]:
        """Judge images.

        Args:
            images: (N, H, W, C) uint8, C channels of the network.
            threshold: () float64; scores up to it are of known classes. (K,) float64 where it is one for each
                predicted class.

        Returns:
            The ANSWERS: label (N,) int64 in 0..K-1, or -1 where the score is above the threshold: unknown;
            score (N,) float64, higher = more unknown; probabilities (N, K) float32 of the known classes after
            calibration; prediction (N,) int64 in 0..K-1, the nearest known class, whatever the score says.
        """
        traced = self.outputs(images)
        score, prediction = self.detector.score_traced(traced), argmax(traced.logits)
        theta = threshold if threshold.ndim == 0 else threshold.index_select(0, prediction)
        return {
            "label": torch.where(score <= theta, prediction, UNKNOWN),
            "score": score,
            "probabilities": calibrated(self.calibration, traced.logits.double()).softmax(1).float(),
            "prediction": prediction,
        }

    def outputs(self, images: Tensor) -> Traced:
        """What the network gives for (N, H, W, C) uint8 images."""
        preprocess, head = self.model.preprocess, self.model.head
        pixels = self.fit(images.permute(0, 3, 1, 2).to(torch.float32) / 255)
        pixels = (pixels - preprocess.get_buffer("mean")) / preprocess.get_buffer("std")
        logits, features = self.model.judge(self.model.embed(pixels))
        weight, bias = head.affine()
        return Traced(
            logits=logits[:, : head.num_classes],
            features=features,
            extra_logits=logits[:, head.num_classes :],
            weight=weight[: head.num_classes],
            bias=weight.new_zeros(head.num_classes) if bias is None else bias[: head.num_classes],
        )


class Fit(nn.Module):
    """`Frame.fit` of float images whose height and width are known only when the graph runs.

    A resize is linear in the pixels: two products with weights that the graph makes of height and width, as
    torch does, in float32. Of images that have the right size already they are the identity.

    Args:
        frame: the square.
    """

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self.frame = frame

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, C, size, size) of (N, C, H, W) float32 in 0..1."""
        height, width = (pixels.new_full((), side, dtype=torch.float64) for side in pixels.shape[2:])
        tall, wide = self._before_crop(height, width)
        if self.frame.interpolation == "nearest":
            rows, columns = self._nearest(height, tall), self._nearest(width, wide)
            return pixels.index_select(2, rows).index_select(3, columns)
        across = self._weights(pixels.shape[3], width, wide)
        down = self._weights(pixels.shape[2], height, tall)
        found = down @ (pixels @ across.T)
        return found.clamp(0, 1) if self.frame.interpolation == "bicubic" else found

    def _before_crop(self, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """Height and width after the resize, whole numbers in float64; the square in the middle is kept."""
        size, short = self.frame.size, self.frame.short_side
        if self.frame.crop_fraction is None:
            return torch.full_like(height, size), torch.full_like(width, size)
        scale = short / torch.minimum(height, width)
        fits = (height == size) & (width == size)
        tall, wide = ((side * scale).floor().clamp_min(short) for side in (height, width))
        return torch.where(fits, height, tall), torch.where(fits, width, wide)

    def _places(self, resized: Tensor) -> Tensor:
        """(size,) float64, which places of the resized axis are kept."""
        return torch.arange(self.frame.size, dtype=torch.float64) + ((resized - self.frame.size) / 2).floor()

    def _centres(self, side: Tensor, resized: Tensor) -> tuple[Tensor, Tensor]:
        """Centres of the kept places (size,) and pixels for one place, both float32 as torch has them."""
        stretch = side.float() / resized.float()
        return ((self._places(resized) + 0.5) * stretch.double()).float(), stretch

    def _nearest(self, side: Tensor, resized: Tensor) -> Tensor:
        centres, _ = self._centres(side, resized)
        return torch.minimum(centres.floor(), side.float() - 1).long()

    def _weights(self, length: int, side: Tensor, resized: Tensor) -> Tensor:
        """(size, length) float32."""
        centres, stretch = self._centres(side, resized)
        pixels = torch.arange(length, dtype=torch.float32)
        found: Tensor = weights(
            centres[:, None], pixels[None], stretch.clamp_min(1), self.frame.interpolation
        )
        return found


def check_recordable(detector: Detector) -> None:
    """Refuse a detector that has no graph.

    Raises:
        InputError: odin or rotpred, alone or in an ensemble; or one that holds too many numbers.
    """
    if again := network_again_of(detector):
        raise InputError(
            f"{detector.name} has no graph: {again[0].why_no_graph}. Choose another one with --detector."
        )
    if detector.size > MAX_BANK:
        raise InputError(
            f"{detector.name} holds {detector.size:,} numbers, but a graph may hold {MAX_BANK:,}: lower "
            f"detectors.{detector.name}.bank_fraction, or choose another one with --detector."
        )


def calibrated(calibration: Calibration, logits: Tensor) -> Tensor:
    """What `calibration.apply` gives, (N, K) float64, of (N, K) float64 logits.

    Raises:
        InputError: a calibration that has no graph.
    """
    if isinstance(calibration, Temperature):
        return logits / calibration.temperature
    if isinstance(calibration, Vector):
        return logits * logits.new_tensor(calibration.scale) + logits.new_tensor(calibration.offset)
    if not isinstance(calibration, Isotonic):
        raise InputError(f"The calibration {calibration.method} has no graph.")
    log_shares = logits.log_softmax(1)
    if logits.shape[1] == 1:
        return log_shares
    top = argmax(logits)[:, None]
    share = _interpolated(log_shares.gather(1, top).exp(), calibration)
    others = log_shares.scatter(1, top, -torch.inf).log_softmax(1) + (-share).log1p()
    return others.scatter(1, top, share.log())


def _interpolated(values: Tensor, calibration: Isotonic) -> Tensor:
    """(N, 1) float64, linear between the knots and constant outside, of (N, 1) float64."""
    knots, shares = (values.new_tensor(numbers) for numbers in (calibration.knots, calibration.values))
    if len(knots) == 1:
        return shares.expand(values.shape[0], 1)
    place = (values >= knots).sum(1).clamp(1, len(knots) - 1)
    (low, high), (start, end) = ((held[place - 1], held[place]) for held in (knots, shares))
    part = ((values[:, 0] - low) / (high - low)).clamp(0, 1)
    return (start + (end - start) * part)[:, None]
