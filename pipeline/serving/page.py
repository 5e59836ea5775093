"""The pages of `osr serve`, each one file of HTML, and the scores of known images that the first draws."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from osr.inference.classifier import OpenSetClassifier
from osr.inference.judgement import Decision

PAGE = Path(__file__).with_name("page.html")
API = Path(__file__).with_name("api.html.jinja")
BINS = 40


def page() -> tuple[str, dict[str, str]]:
    """The page, and headers that let a browser run what stands in it and nothing else, from here alone."""
    text = PAGE.read_text(encoding="utf-8")
    return text, _headers(
        f"script-src '{_digest(text, 'script')}'; style-src '{_digest(text, 'style')}'; "
        "img-src 'self' blob: data:; connect-src 'self'"
    )


def api_page(schema: Mapping[str, Any], address: str) -> tuple[str, dict[str, str]]:
    """What may be asked, for people, and headers that let a browser show it and run nothing.

    Args:
        schema: of OpenAPI.
        address: of the service as the reader sees it, with a slash at its end.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(API.read_text(encoding="utf-8"))
    text = template.render(paths=schema["paths"], address=address)
    return text, _headers(f"style-src '{_digest(text, 'style')}'; img-src data:")


def _headers(allowed: str) -> dict[str, str]:
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


def _digest(text: str, tag: str) -> str:
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
