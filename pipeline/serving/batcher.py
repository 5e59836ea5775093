"""Requests that wait together are judged together: one forward pass for many clients."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from osr.inference.classifier import OpenSetClassifier
from osr.inference.judgement import Decision, Judgement

logger = logging.getLogger("osr.serve")

Pixels = NDArray[np.uint8]


class _Waiting(NamedTuple):
    images: list[Pixels]
    decision: Decision
    neighbours: int
    answer: asyncio.Future[Judgement]


class Batcher:
    """Judges what waits, at most a batch of the classifier at once, in one thread.

    Args:
        classifier: judges.
    """

    def __init__(self, classifier: OpenSetClassifier) -> None:
        self._classifier = classifier
        self._waiting, self._filled = deque[_Waiting](), asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "judge")

    @property
    def num_waiting(self) -> int:
        """Images that nobody judges yet."""
        return sum(len(entry.images) for entry in self._waiting)

    async def judge(self, images: Sequence[Pixels], decision: Decision, *, neighbours: int = 0) -> Judgement:
        """The verdicts, once it is their turn; what `OpenSetClassifier.judge` raises is raised here."""
        answer: asyncio.Future[Judgement] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(list(images), decision, neighbours, answer))
        self._filled.set()
        return await answer

    async def run(self) -> None:
        """Work until this is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._filled.wait()
            together = self._take()
            if not together:
                self._filled.clear()
                continue
            images = [image for entry in together for image in entry.images]
            try:
                first = together[0]
                judge = partial(self._classifier.judge, images, first.decision, neighbours=first.neighbours)
                found = await loop.run_in_executor(self._thread, judge)
            except Exception as error:
                asking = [entry.answer for entry in together if not entry.answer.done()]
                for answer in asking:
                    answer.set_exception(error)
                if not asking:
                    logger.exception("nobody waits any more for an answer that failed")
                continue
            start = 0
            for entry in together:
                stop = start + len(entry.images)
                if not entry.answer.done():
                    entry.answer.set_result(found.part(slice(start, stop)))
                start = stop

    def _take(self) -> list[_Waiting]:
        """Of what waits the first, and what is to be decided in the same way, up to a batch; in order.

        Those whose client has gone away are dropped.
        """
        taken, left, count = list[_Waiting](), deque[_Waiting](), 0
        for entry in self._waiting:
            if entry.answer.done():
                continue
            room = self._classifier.batch_size - count
            alike = not taken or entry[1:3] == taken[0][1:3]
            fits = not taken or (alike and len(entry.images) <= room)
            if fits:
                taken.append(entry)
                count += len(entry.images)
            else:
                left.append(entry)
        self._waiting = left
        return taken
