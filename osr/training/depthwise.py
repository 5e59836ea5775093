"""Depthwise convolutions on maps smaller than their kernel, which PyTorch is slow to learn on CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode

Pair = tuple[int, int]


def has_depthwise(model: nn.Module) -> bool:
    """Whether a convolution of the network has one filter a channel; without one, to watch is time lost."""
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return any(module.groups == module.out_channels > 1 for module in convolutions)


class QuickDepthwise(TorchFunctionMode):
    """While it is entered, such convolutions find the gradient of their weights place by place.

    With 5 x 5 weights on 2 x 2 maps that takes a seventieth of PyTorch's time. Outputs stay the same,
    gradients differ by rounding. Other devices, other precisions and all other convolutions are left alone.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called for each function of torch."""
        if func is torch.conv2d and not kwargs and len(args) == 7 and _is_slow(args[0], args[1], *args[3:]):
            images, weight, bias, stride, padding = args[:5]
            result = _Depthwise.apply(images, weight, _pair(stride), _pair(padding))
            return result if bias is None else result + bias.view(-1, 1, 1)
        return func(*args, **(kwargs or {}))


def _is_slow(images: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> bool:
    """Whether a convolution is depthwise, learns, and has less map than kernel."""
    channels, factor, *kernel = weight.shape
    if groups != channels or factor != 1 or images.ndim != 4 or isinstance(padding, str):
        return False
    if images.device.type != "cpu" or torch.is_autocast_enabled("cpu") or _pair(dilation) != (1, 1):
        return False
    is_plain = images.dtype == weight.dtype == torch.float32
    sides = zip(images.shape[2:], kernel, _pair(stride), _pair(padding), strict=True)
    return is_plain and weight.requires_grad and all(_places(*side) < side[1] for side in sides)


def _places(size: int, kernel: int, stride: int, padding: int) -> int:
    """How many outputs a line of `size` pixels has."""
    return (size + 2 * padding - kernel) // stride + 1


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution without bias."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.steps = stride, padding
        return torch.conv2d(images, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        images, weight = ctx.saved_tensors
        stride, padding = ctx.steps
        grad_images = None
        if ctx.needs_input_grad[0]:
            wanted = [True, False, False]
            grad_images = torch.ops.aten.convolution_backward(
                grad, images, weight, None, stride, padding, [1, 1], False, [0, 0], len(weight), wanted
            )[0]
        return grad_images, _weight_grad(images, weight, grad, stride, padding), None, None


def _weight_grad(images: Tensor, weight: Tensor, grad: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """(C, 1, H, W), each place of the kernel from the pixels it meets; others meet the padding alone."""
    images, grad = images.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
    result = torch.zeros_like(weight)
    for row in range(weight.shape[2]):
        out_rows, in_rows = _meeting(row - padding[0], images.shape[1], grad.shape[1], stride[0])
        for column in range(weight.shape[3]):
            out_columns, in_columns = _meeting(column - padding[1], images.shape[2], grad.shape[2], stride[1])
            products = grad[:, out_rows, out_columns] * images[:, in_rows, in_columns]
            result[:, 0, row, column] = products.sum((0, 1, 2))
    return result


def _meeting(offset: int, size: int, num_out: int, stride: int) -> tuple[slice, slice]:
    """The outputs of a line that meet pixels `offset` further on, and these pixels; the others meet zeros."""
    first = max(0, -(offset // stride))
    stop = max(first, min(num_out, (size - 1 - offset) // stride + 1))
    start = first * stride + offset
    return slice(first, stop), slice(start, start + (stop - first) * stride, stride)
