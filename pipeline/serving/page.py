"""The page of `osr serve`: one file of HTML, and the scores of known images that it draws."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from osr.inference.classifier import OpenSetClassifier
from osr.inference.judgement import Decision

PAGE = Path(__file__).with_name("page.html")
BINS = 40


def page() -> tuple[str, dict[str, str]]:
    """The page, and headers that let a browser run what stands in it and nothing else, from here alone."""
    text = PAGE.read_text(encoding="utf-8")
    return text, headers(
        f"script-src '{digest(text, 'script')}'; style-src '{digest(text, 'style')}'; "
        "img-src 'self' blob: data:; connect-src 'self'"
    )


def headers(allowed: str) -> dict[str, str]:
    """Headers that let a browser do with a page what a Content-Security-Policy allows, and nothing else."""
    return {
        "Content-Security-Policy": f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def png(image: NDArray[np.uint8]) -> bytes:
    """The file of an image (H, W, 1 or 3)."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()


def digest(text: str, tag: str) -> str:
    """Of what stands in the one element of this name, as a browser computes it."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _thresholds(classifier: OpenSetClassifier, decision: Decision) -> dict[str, Any]:
    """The threshold, or None and one for each predicted class by its name."""
    theta = classifier.threshold(decision)
    if not isinstance(theta, tuple):
        return {"threshold": theta}
    return {"threshold": None, "thresholds": dict(zip(classifier.class_names, theta, strict=True))}


def known_scores(classifier: OpenSetClassifier, decision: Decision) -> dict[str, Any]:
    """The histogram of the stored scores of validation knowns, and where a decision parts them.

    Args:
        classifier: holds them.
        decision: by a threshold, a share to accept, or as fitted.
    """
    scores = classifier.scores[decision.detector or classifier.detector]
    finite = scores[np.isfinite(scores)]
    counts, edges = np.histogram(finite, bins=min(BINS, max(1, len(finite) // 4)))
    return {
        "detector": decision.detector or classifier.detector,
        **_thresholds(classifier, decision),
        "expected_rejection": classifier.expected_rejection(decision),
        "num_images": len(scores),
        "edges": edges.tolist(),
        "counts": counts.tolist(),
    }
