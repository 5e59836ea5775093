"""A `ClassifierGraph` as a file: ONNX for any runtime, or a program of `torch.export`."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import Dim, ExportedProgram

from osr.errors import InputError, first_line
from osr.inference.graph import ANSWERS, ClassifierGraph
from osr.inference.parts import Parts

OPSET = 20
INPUTS = ("images", "threshold")
OPEN = ("num_images", "height", "width")  # axes of the images whose lengths are open
EXAMPLE = 2, 5, 7  # images, height and width of the call that is recorded; all three stay open
MAX_BYTES = 2_000_000_000  # of one ONNX file, which is one message of protobuf
_INSTALL = "install `osr[onnx]`, which has onnx, onnxscript and onnxruntime"


def describe(parts: Parts, detector: str, batch_size: int) -> dict[str, str]:
    """What a graph's file says of itself, by key; values are text, most of them JSON.

    Args:
        parts: of the run.
        detector: which of them judges in the graph.
        batch_size: images at once, at most, for whoever has many.
    """
    model, fitted = parts.model, parts.detectors[detector][1]
    digests = {**model.origin.model_dump(exclude_none=True), "thresholds": parts.thresholds.digest}
    return {
        "class_names": json.dumps(model.class_names),
        "detector": detector,
        "threshold": json.dumps(asdict(fitted)),
        "image_format": json.dumps(asdict(model.image_format)),
        "batch_size": json.dumps(batch_size),
        "digests": json.dumps(digests, sort_keys=True),
    }


def record(parts: Parts, detector: str) -> ExportedProgram:
    """The classifier of a run with one detector as a program; number, height and width of images are open.

    Args:
        parts: of the run.
        detector: which of them judges.

    Raises:
        InputError: see `ClassifierGraph`; or a network that `torch.export` cannot record.
    """
    graph, channels = ClassifierGraph(parts, detector), parts.model.image_format.channels
    sides = {axis: Dim(name, min=1) for axis, name in enumerate(OPEN)}
    theta = torch.tensor(parts.detectors[detector][1].theta, dtype=torch.float64)
    arguments = torch.zeros((*EXAMPLE, channels), dtype=torch.uint8), torch.zeros_like(theta)
    try:
        with torch.no_grad():
            program = torch.export.export(graph, arguments, dynamic_shapes={"images": sides, "threshold": {}})
    except (RuntimeError, ValueError, TypeError) as error:
        told = f"torch.export cannot record this network with {detector}: {first_line(error)}"
        raise InputError(told) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def write_program(path: Path, program: ExportedProgram, description: Mapping[str, str]) -> None:
    """Write a program as `torch.export.load` reads it; the description is its file `classifier.json`."""
    text = json.dumps(dict(description), indent=2)
    with warnings.catch_warnings():
        # Weights read from one file share its memory, all of which is written.
        warnings.filterwarnings("ignore", message="No complete tensor found", category=UserWarning)
        torch.export.save(program, path, extra_files={"classifier.json": text})


def write_onnx(path: Path, program: ExportedProgram, description: Mapping[str, str]) -> None:
    """Write one ONNX file: threshold is an input with the fitted value as default, the rest is metadata.

    Thresholds per class are an input (K,).

    The file is tried before it is written: it must answer as the program does.

    Raises:
        InputError: a package is missing, the file would be too large, or its answers differ.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (of torch.onnx)
    except ImportError as error:
        raise InputError(f"--onnx needs {error.name}: {_INSTALL}.") from error
    model = translated(program, INPUTS, ANSWERS)
    stored = json.loads(description["threshold"])
    threshold = np.array(stored["per_class"] or stored["value"])
    default = onnx.helper.make_tensor(
        "threshold", onnx.TensorProto.DOUBLE, threshold.shape, threshold.ravel().tolist()
    )
    model.graph.initializer.append(default)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(description))
    if (size := model.ByteSize()) > MAX_BYTES:
        raise InputError(f"{path.name} would have {size:,} bytes, but one ONNX file at most {MAX_BYTES:,}.")
    content = model.SerializeToString(deterministic=True)
    _compare(content, program, threshold, onnxruntime)
    path.write_bytes(content)


def translated(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """A program in ONNX, without traces of where it was written, as `onnx.ModelProto`.

    Args:
        program: whose first input has open axes.
        inputs: their names.
        outputs: their names.
    """
    import onnxscript

    with _quiet("onnxscript", "onnx_ir"):
        found = torch.onnx.export(
            program,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
            custom_translation_table=_exact(onnxscript),
        )
    if found is None:
        raise InputError("torch.onnx.export gave no program.")
    model = found.model_proto
    for part in (model.graph, *model.functions):
        del part.metadata_props[:]
        for node in part.node:
            node.doc_string = ""
            del node.metadata_props[:]
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    axes = model.graph.input[0].type.tensor_type.shape.dim
    names = {axis.dim_param: name for axis, name in zip(axes, OPEN, strict=False)}
    for value in values:
        del value.metadata_props[:]
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = names.get(axis.dim_param, axis.dim_param)
    return model


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Without what loggers say of every node that they pass over."""
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _exact(onnxscript: Any) -> dict[Any, Any]:
    """What loses digits in the exporter's own translation, or has no float64 in ONNX Runtime.

    log1p and expm1 of small x (Kahan), and of large x, where 1 is lost; softplus and log sigmoid, by log1p;
    numbers, which pass through float32 otherwise.
    """
    op = getattr(onnxscript, f"opset{OPSET}")

    def log1p(x: Any) -> Any:
        one = op.CastLike(1.0, x)
        moved = op.Add(x, one)
        found = op.Div(op.Mul(x, op.Log(moved)), op.Sub(moved, one))
        found = op.Where(op.Equal(moved, x), op.Log(moved), found)
        return op.Where(op.Equal(moved, one), x, found)

    def expm1(x: Any) -> Any:
        one = op.CastLike(1.0, x)
        power = op.Exp(x)
        less = op.Sub(power, one)
        found = op.Div(op.Mul(less, x), op.Log(power))
        is_less = op.Or(op.Equal(less, op.Neg(one)), op.Equal(less, power))
        found = op.Where(is_less, less, found)
        return op.Where(op.Equal(power, one), x, found)

    def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:  # noqa: ARG001
        return op.Add(op.Max(x, op.CastLike(0.0, x)), log1p(op.Exp(op.Neg(op.Abs(x)))))

    def log_sigmoid(x: Any) -> Any:
        return op.Sub(op.Min(x, op.CastLike(0.0, x)), log1p(op.Exp(op.Neg(op.Abs(x)))))

    def scalar_tensor(
        s: Any,
        dtype: int = 1,
        layout: str = "",  # noqa: ARG001
        device: str = "",  # noqa: ARG001
        pin_memory: bool = False,  # noqa: ARG001
    ) -> Any:
        if isinstance(s, bool | int | float):
            return op.Constant(value=onnxscript.ir.tensor(s, dtype=onnxscript.ir.DataType(dtype)))
        return op.Cast(s, to=dtype)

    aten = torch.ops.aten
    return {
        aten.log1p.default: log1p,
        aten.expm1.default: expm1,
        aten.softplus.default: softplus,
        aten.log_sigmoid.default: log_sigmoid,
        aten.scalar_tensor.default: scalar_tensor,
    }


def _compare(
    content: bytes, program: ExportedProgram, threshold: NDArray[np.float64], onnxruntime: Any
) -> None:
    """Raise `InputError` unless the file and the program say the same of noise of two sizes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of the threshold, an input with a default
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    recorded, draws = program.module(), torch.Generator().manual_seed(0)
    channels = session.get_inputs()[0].shape[3]
    for shape in ((1, 19, 31), (3, 40, 24)):
        images = torch.randint(256, (*shape, channels), generator=draws, dtype=torch.uint8)
        with torch.inference_mode():
            expected = recorded(images, torch.from_numpy(threshold))["score"]
        found = torch.from_numpy(session.run(["score"], {"images": images.numpy()})[0])
        # Coarse: a score that is a difference of large numbers has few digits in float32.
        if not torch.allclose(found, expected, rtol=0.01, atol=0.01 * float(expected.abs().max())):
            raise InputError(
                f"The ONNX graph scores noise {found.tolist()}, but torch {expected.tolist()}: it is not "
                "written. Please report the detector and the network."
            )
