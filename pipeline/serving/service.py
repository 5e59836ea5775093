"""The HTTP service of `osr serve`: images in, a class or "unknown" out, limits on everything."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.judgement import Decision, Judgement
from osr.inference.predictor import UNKNOWN_NAME
from osr.inference.streams import Reader, Source
from osr.version import VERSION
from pipeline.serving.api import TOP, api_page, described
from pipeline.serving.batcher import Batcher, Pixels
from pipeline.serving.bodies import Budget, Limits, RefusedError, read_sources
from pipeline.serving.page import known_scores, page, png

_NUMBERS = ("threshold", "accept", "p_value")
_QUERY = ("detector", *_NUMBERS, "top", "neighbours")
_OF_SCORES = ("detector", "threshold", "accept")


class Gauges:
    """What /metrics shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "osr_requests", "Requests to /predict by status", ["status"], registry=self.registry
        )
        self.images = Counter("osr_images", "Judged images by verdict", ["verdict"], registry=self.registry)
        self.seconds = Histogram(
            "osr_request_seconds", "Time of a request to /predict", registry=self.registry
        )
        self.waiting = Gauge("osr_waiting_images", "Images that wait to be judged", registry=self.registry)


def create_app(classifier: OpenSetClassifier, limits: Limits | None = None) -> FastAPI:
    """The service as an ASGI application.

    Args:
        classifier: judges.
        limits: of a request.
    """
    service = _Service(classifier, limits or Limits())
    app = FastAPI(title="osr", version=VERSION, lifespan=service.lifespan, docs_url=None, redoc_url=None)
    app.post("/predict", **described("predict", _QUERY))(service.predict)
    app.get("/scores", **described("scores", _OF_SCORES))(service.scores)
    app.get("/training_images/{number}", **described("training_image", ("number",)))(service.training_image)
    app.get("/health", **described("health"))(service.health)
    app.get("/metrics", **described("metrics"))(service.metrics)
    app.get("/", include_in_schema=False)(service.page)
    app.get("/docs", include_in_schema=False)(service.docs)
    app.add_exception_handler(Exception, _failed)
    return app


async def _failed(_request: Request, _error: Exception) -> Response:
    """What the client hears of a mistake of ours; the error itself goes on, and the server logs it."""
    return JSONResponse({"error": "The server made a mistake; its log says more."}, 500)


class _Service:
    def __init__(self, classifier: OpenSetClassifier, limits: Limits) -> None:
        self.classifier, self.limits, self.gauges = classifier, limits, Gauges()
        image_format = classifier.image_format
        self.reader = Reader(image_format.frame, image_format.channels, limits.pixels)
        self.html = page()
        self.budget, self.decoders = Budget(limits.total_bytes), ThreadPoolExecutor(os.cpu_count(), "decode")

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        self.batcher = Batcher(self.classifier)
        self.gauges.waiting.set_function(lambda: self.batcher.num_waiting)
        work = asyncio.create_task(self.batcher.run())
        yield
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    async def predict(self, request: Request) -> Response:
        start, status = time.perf_counter(), 500
        try:
            with self.budget.held() as held:
                content = await self._verdicts(request, held)
            status = 200
        except (RefusedError, InputError) as refused:
            status = refused.status if isinstance(refused, RefusedError) else 422
            content = {"error": str(refused)}
        finally:
            self.gauges.requests.labels(status).inc()
            self.gauges.seconds.observe(time.perf_counter() - start)
        return JSONResponse(content, status, headers={"Retry-After": "1"} if status == 503 else None)

    async def scores(self, request: Request) -> Response:
        try:
            decision = _asked(request.query_params, self.classifier, _OF_SCORES).decision
            if not np.isfinite(self.classifier.threshold(decision)).all():
                raise RefusedError(422, "threshold must be a finite number.")
        except (RefusedError, InputError) as refused:
            return JSONResponse({"error": str(refused)}, 422)
        return JSONResponse(known_scores(self.classifier, decision))

    async def page(self) -> Response:
        text, headers = self.html
        return HTMLResponse(text, headers=headers)

    async def docs(self, request: Request) -> Response:
        text, headers = api_page(request.app.openapi(), str(request.base_url))
        return HTMLResponse(text, headers=headers)

    async def health(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "osr": VERSION,
            "detector": self.classifier.detector,
            "detectors": self.classifier.detectors,
            "classes": self.classifier.class_names,
            "training_images": len(self.classifier.training_images or ()),
        }

    async def training_image(self, request: Request) -> Response:
        held, number = self.classifier.training_images, request.path_params["number"]
        if held is None or not (number.isdecimal() and len(number) < 10 and int(number) < len(held)):
            return JSONResponse({"error": f"There are {len(held or ())} training images."}, 404)
        return Response(png(held.thumbnails[int(number)]), media_type="image/png")

    async def metrics(self) -> Response:
        return Response(generate_latest(self.gauges.registry), media_type="text/plain; version=0.0.4")

    async def _verdicts(self, request: Request, held: Any) -> dict[str, Any]:
        asked = _asked(request.query_params, self.classifier)
        sources = await read_sources(request, self.limits, held)
        try:
            async with asyncio.timeout(self.limits.seconds):
                images = await self._decoded(sources)
                found = await self.batcher.judge(images, asked.decision, neighbours=asked.neighbours)
        except TimeoutError:
            raise RefusedError(503, f"There was no verdict within {self.limits.seconds:g} seconds.") from None
        for label in found.labels:
            self.gauges.images.labels("unknown" if label == UNKNOWN_NAME else "known").inc()
        return {"verdicts": _records(found, asked.top)}

    async def _decoded(self, sources: list[Source]) -> list[Pixels]:
        loop, images = asyncio.get_running_loop(), list[Pixels]()
        for read in await loop.run_in_executor(self.decoders, self.reader.__getitem__, sources):
            if read.pixels is None:
                raise RefusedError(422, read.reason)
            images.append(read.pixels)
        return images


class _Asked(NamedTuple):
    """How to decide, and how many classes and training images to name."""

    decision: Decision
    top: int
    neighbours: int


def _asked(
    query: Mapping[str, str], classifier: OpenSetClassifier, allowed: Sequence[str] = _QUERY
) -> _Asked:
    """What the arguments of a request ask for."""
    if unknown := sorted(set(query) - set(allowed)):
        raise RefusedError(422, f"Arguments may be {', '.join(allowed)}, not {', '.join(unknown)[:100]}.")
    numbers = {name: _number(name, query[name]) for name in _NUMBERS if name in query}
    decision = Decision(detector=query.get("detector"), **numbers)
    classifier.check(decision)
    num_classes = len(classifier.class_names)
    top = _whole("top", query.get("top", str(min(TOP, num_classes))), 1, num_classes)
    near, held = query.get("neighbours", "0"), len(classifier.training_images or ())
    if near != "0" and not held:
        classifier.check_neighbours(1)
    return _Asked(decision, top, _whole("neighbours", near, 0, held))


def _whole(name: str, text: str, low: int, high: int) -> int:
    if not (text.isdecimal() and len(text) < 10 and low <= int(text) <= high):
        raise RefusedError(422, f"{name} must be a whole number in {low}..{high}.")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RefusedError(422, f"{name} must be a number.") from None


def _records(found: Judgement, top: int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = [
        {
            "label": label,
            "score": float(score),
            "p_value": float(p_value),
            "nearest": found.class_names[prediction],
            "top": [{"label": name, "probability": share} for name, share in best],
        }
        for label, score, p_value, prediction, best in zip(
            found.labels, found.scores, found.p_values, found.predictions, found.top(top), strict=True
        )
    ]
    for record, near in zip(records, found.neighbours, strict=False):  # there are none unless asked for
        record["neighbours"] = [
            {"label": name, "similarity": alike, "image": f"training_images/{number}"}
            for number, name, alike in near
        ]
    return records
