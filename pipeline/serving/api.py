"""What may be asked of `osr serve`: as OpenAPI for programs, and as a page for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.serving.page import digest, headers

TEMPLATE = Path(__file__).with_name("api.html.jinja")
TOP = 3  # classes named in an answer, unless `top` asks for more
_BODY = {
    "image/*": {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": "the file of one image: PNG, JPEG, WebP and others; application/octet-stream, too",
        }
    },
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "additionalProperties": {"type": "string", "format": "binary"},
            "description": "a form with the file of an image in each field",
        }
    },
    "application/json": {
        "schema": {
            "type": "object",
            "description": 'files of images in base64: {"images": ["iVBORw0KGgo…", …]}',
            "properties": {"images": {"type": "array", "items": {"type": "string", "format": "byte"}}},
            "required": ["images"],
        }
    },
}
_TOLD = {
    "detector": ("string", "scores the images; otherwise the one that was exported as default"),
    "threshold": ("number", "scores above are unknown; otherwise the fitted one"),
    "accept": ("number", "decide by the threshold that accepts this share of known images, such as 0.99"),
    "p_value": ("number", "images whose p-value is at most this are unknown"),
    "top": ("integer", f"how many of the most probable known classes to name; otherwise {TOP}"),
    "neighbours": ("integer", "how many of the nearest training images to name, where the folder holds any"),
    "number": ("integer", "of a training image, from 0, as the path in an answer says"),
}
_VERDICTS = (
    '{"verdicts": [{"label": …, "score": …, "p_value": …, "nearest": …, "top": [{"label": …, '
    '"probability": …}]}]}, one for each image; label is a known class or unknown, a higher score is more '
    "unknown, nearest is the nearest known class"
)
_REFUSALS = {
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "a Content-Type that is no image, form or JSON",
    422: "no image that can be read, or a wrong argument",
    503: "the server is busy, or the verdict took too long",
}
# What each path is for, what it answers, and what else.
_PATHS: dict[str, tuple[str, str, Mapping[int, str]]] = {
    "predict": ('Judge images: a known class, or "unknown"', _VERDICTS, _REFUSALS),
    "scores": (
        "A histogram of the scores of known images, and the threshold among them",
        "edges, counts, num_images, threshold, expected_rejection, detector",
        {422: "a wrong argument"},
    ),
    "training_image": (
        "A training image that an answer names",
        "a PNG",
        {404: "there is no such training image"},
    ),
    "health": (
        "Whether the service answers, and what it judges",
        "status: ok; osr: its version; detector, detectors, classes; training_images: how many",
        {},
    ),
    "metrics": ("Counts and times of requests and images", "the text format of Prometheus", {}),
}


def described(name: str, arguments: Sequence[str] = ()) -> dict[str, Any]:
    """What FastAPI wants to know of a path, for the schema.

    Args:
        name: of _PATHS.
        arguments: of _TOLD.
    """
    summary, answer, others = _PATHS[name]
    parameters = [
        {
            "name": argument,
            "in": "path" if argument == "number" else "query",
            "required": argument == "number",
            "description": _TOLD[argument][1],
            "schema": {"type": _TOLD[argument][0]},
        }
        for argument in arguments
    ]
    body = {"requestBody": {"required": True, "content": _BODY}} if name == "predict" else {}
    return {
        "summary": summary,
        "response_description": answer,
        "responses": {status: {"description": told} for status, told in others.items()},
        "openapi_extra": {"parameters": parameters, **body},
    }


def api_page(schema: Mapping[str, Any], address: str) -> tuple[str, dict[str, str]]:
    """The page, and headers that let a browser show it and run nothing.

    Args:
        schema: of OpenAPI.
        address: of the service as the reader sees it, with a slash at its end.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    text = template.render(paths=schema["paths"], address=address)
    return text, headers(f"style-src '{digest(text, 'style')}'; img-src data:")
