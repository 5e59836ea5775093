"""Judges images with a classifier that `osr export --onnx` wrote, by numpy, onnxruntime and Pillow alone."""

from __future__ import annotations

from osr_runtime.classifier import OnnxClassifier
from osr_runtime.shared.errors import InputError
from osr_runtime.shared.judgement import Judgement

__all__ = ["InputError", "Judgement", "OnnxClassifier", "load"]

load = OnnxClassifier.load
