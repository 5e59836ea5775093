"""The HTTP service: the classifier's verdicts for many clients at once, and a sentence for all else."""

import asyncio
import base64
import http.client
import io
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from extracted import IMAGES, png
from PIL import Image
from test_export import folder  # noqa: F401 (fixture)
from test_predict import exportable, model, run  # noqa: F401 (fixtures)

import osr
from osr.inference.judgement import Decision
from pipeline.serving.batcher import Batcher
from pipeline.serving.bodies import Limits
from pipeline.serving.service import create_app

ROOT = Path(__file__).parents[1]
LIMITS = Limits(body_bytes=100_000, total_bytes=1_000_000, images=4, pixels=1_000_000, seconds=2.0)


FILES = [png(image) for image in IMAGES]


class Server:
    """A server on a free port of the loopback, in a thread."""

    def __init__(
        self, classifier: osr.inference.classifier.OpenSetClassifier, limits: Limits = LIMITS
    ) -> None:
        self.classifier = classifier
        config = uvicorn.Config(create_app(classifier, limits), port=0, log_level="warning", lifespan="on")
        self.uvicorn = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.uvicorn.run, daemon=True)

    def __enter__(self) -> "Server":
        self.thread.start()
        deadline = time.monotonic() + 60
        while not self.uvicorn.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.port = self.uvicorn.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.uvicorn.should_exit = True
        self.thread.join(30)

    def ask(
        self,
        body: bytes | str = b"",
        kind: str = "image/png",
        query: str = "",
        method: str = "POST",
        path="/predict",
    ) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path + query, body=body, headers={"Content-Type": kind} if kind else {})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(content) if is_json else {"text": content.decode()}


@pytest.fixture
def server(folder):  # noqa: F811
    with Server(osr.load(folder)) as running:
        yield running


def form(*files: bytes) -> tuple[bytes, str]:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="../../etc/passwd"\r\n\r\n'
        + file
        + b"\r\n"
        for file in files
    ]
    return b"".join(parts) + b"--x--\r\n", "multipart/form-data; boundary=x"


def as_json(*files: bytes) -> tuple[str, str]:
    return json.dumps({"images": [base64.b64encode(file).decode() for file in files]}), "application/json"


def test_every_way_gives_the_classifiers_verdicts(server: Server) -> None:
    def verdicts(body: bytes | str, kind: str, query: str = "") -> list[dict]:
        status, content = server.ask(body, kind, query)
        assert status == 200, content
        return content["verdicts"]

    expected = server.classifier.predict(IMAGES[:3])
    kinds = ("image/png", "image/jpeg", "application/octet-stream")  # what a file is, it says itself
    one_by_one = [verdicts(file, kind)[0] for file, kind in zip(FILES, kinds, strict=False)]
    for answers in (one_by_one, verdicts(*form(*FILES[:3])), verdicts(*as_json(*FILES[:3]))):
        for row, answer in enumerate(answers):
            assert answer["label"] == expected.labels[row]
            assert answer["score"] == pytest.approx(expected.scores[row], rel=1e-6)
            assert answer["p_value"] == expected.p_values[row]
            assert answer["nearest"] == "abc"[expected.predictions[row]]
            assert [best["label"] for best in answer["top"]] == [name for name, _ in expected.top(3)[row]]
    for query, asked in {
        "?accept=0.5": Decision(accept=0.5),
        "?p_value=0.5&detector=mahalanobis": Decision("mahalanobis", p_value=0.5),
        "?threshold=1e9": Decision(threshold=1e9),
    }.items():
        labels = [answer["label"] for answer in verdicts(*as_json(*FILES[:4]), query)]
        assert labels == list(server.classifier.judge(IMAGES[:4], asked).labels)
    assert len(verdicts(FILES[0], "image/png", "?top=1")[0]["top"]) == 1


BOMB = io.BytesIO()
Image.new("1", (2000, 2000)).save(BOMB, "PNG")
DEEP = "[" * 50_000

REQUESTS = {
    "an empty body": (b"", "image/png", "", 422, "image 0 is empty"),
    "a text": (b"no image", "image/png", "", 422, "image 0 is no image that can be read"),
    "half a PNG": (FILES[0][:40], "image/png", "", 422, "image 0 is no image that can be read"),
    "4 megapixels in 500 bytes, where 1 is the limit": (BOMB.getvalue(), "image/png", "", 422, "above"),
    "a body of 200 kB, where 100 is the limit": (
        b"0" * 200_000,
        "image/png",
        "",
        413,
        "100,000 bytes at most",
    ),
    "text/plain": (FILES[0], "text/plain", "", 415, "Content-Type must be"),
    "no Content-Type": (FILES[0], "", "", 415, "Content-Type must be"),
    "5 images, where 4 is the limit": (*as_json(*FILES[:5]), "", 422, "1 to 4 images, not 5"),
    "a form without files": (*form(), "", 422, "1 to 4 images, not 0"),
    "a form of 5 files": (*form(*FILES[:5]), "", 422, "The form cannot be read: Too many files"),
    "a form without boundary": (FILES[0], "multipart/form-data", "", 422, "The form cannot be read"),
    "a damaged form": (b"--x\r\nnonsense", "multipart/form-data; boundary=x", "", 422, ""),
    "no JSON": ("{", "application/json", "", 422, "JSON must be"),
    "JSON of 50,000 brackets": (DEEP, "application/json", "", 422, "JSON must be"),
    "JSON of another shape": ('{"images": "x"}', "application/json", "", 422, "JSON must be"),
    "JSON with another key": ('{"images": [], "x": 1}', "application/json", "", 422, "JSON must be"),
    "JSON that is no UTF-8": (b'{"images": ["\xff"]}', "application/json", "", 422, "JSON must be"),
    "a number for an image": ('{"images": [7]}', "application/json", "", 422, "image 0 is no base64"),
    "no base64": ('{"images": ["*"]}', "application/json", "", 422, "image 0 is no base64"),
    "accept=2": (FILES[0], "image/png", "?accept=2", 422, "accept is 2.0, but must be above 0 and at most 1"),
    "accept=x": (FILES[0], "image/png", "?accept=x", 422, "accept must be a number"),
    "threshold=nan": (FILES[0], "image/png", "?threshold=nan", 422, "threshold is nan, but must be a number"),
    "two decisions": (FILES[0], "image/png", "?accept=0.9&p_value=0.1", 422, "Only one of"),
    "detector=vim": (FILES[0], "image/png", "?detector=vim", 422, "must be one of maxlogit, mahalanobis"),
    "an unknown argument": (FILES[0], "image/png", "?treshold=1", 422, "not treshold"),
    "top=9": (FILES[0], "image/png", "?top=9", 422, "top must be a whole number in 1..3"),
}


def test_what_cannot_be_judged_is_one_sentence(server: Server, folder) -> None:  # noqa: F811
    table = ["| request | status | what is said |", "|---|---|---|"]
    for name, (body, kind, query, status, sentence) in REQUESTS.items():
        found, content = server.ask(body, kind, query)
        assert (found, content.keys()) == (status, {"error"}), name
        said = content["error"]
        assert sentence in said, name
        assert "Traceback" not in said
        assert str(folder.parent) not in said
        assert "/tmp" not in said
        table.append(f"| {name} | {status} | {said} |")
    assert server.ask(FILES[0])[0] == 200, "and the server lives"
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert "\n".join(table) in page, "\n".join(table)


def test_slow_clients_and_more_bodies_than_fit_are_sent_away(server: Server) -> None:
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 90000\r\n\r\n"
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(14)]
    for client in clients:
        client.sendall(head.encode() + b"0" * 89_000)
    answers = [client.recv(1000).decode().splitlines()[0] for client in clients]
    assert sorted(set(answers)) == ["HTTP/1.1 408 Request Timeout", "HTTP/1.1 503 Service Unavailable"]
    assert answers.count("HTTP/1.1 503 Service Unavailable") == 14 - 1_000_000 // 89_000
    for client in clients:
        client.close()
    assert server.ask(FILES[0])[0] == 200


def test_many_clients_at_once_get_their_own_answers_and_are_counted(folder) -> None:  # noqa: F811
    with Server(osr.load(folder), replace(LIMITS, seconds=300.0)) as server:  # however busy the machine is
        ask_at_once(server)


def ask_at_once(server: Server) -> None:
    expected = server.classifier.predict(IMAGES)

    def one(number: int) -> None:
        row = number % len(IMAGES)
        status, content = server.ask(FILES[row], query="?accept=0.5" if number % 2 else "")
        assert status == 200
        assert content["verdicts"][0]["score"] == pytest.approx(expected.scores[row], rel=1e-5)

    with ThreadPoolExecutor(50) as clients:
        list(clients.map(one, range(200)))
    server.ask(b"no image")
    told = server.ask(method="GET", path="/metrics")[1]["text"]
    assert 'osr_requests_total{status="200"} 200.0' in told
    assert 'osr_requests_total{status="422"} 1.0' in told
    counts = [line.split()[1] for line in told.splitlines() if line.startswith("osr_images_total")]
    assert sum(map(float, counts)) == 200
    assert "osr_waiting_images 0.0" in told
    assert server.ask(method="GET", path="/health")[1]["classes"] == ["a", "b", "c"]
    schema = server.ask(method="GET", path="/openapi.json")[1]
    operation = schema["paths"]["/predict"]["post"]
    assert {entry["name"] for entry in operation["parameters"]} >= {"accept", "threshold", "p_value", "top"}
    assert set(operation["requestBody"]["content"]) == {"image/*", "multipart/form-data", "application/json"}
    assert server.ask(method="GET")[0] == 405


def test_a_mistake_of_ours_is_told_and_logged_and_the_server_lives(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "handlers", [caplog.handler])
    with monkeypatch.context() as patch:
        patch.setattr(server.classifier, "judge", broken)
        status, content = server.ask(FILES[0])
    assert (status, content) == (500, {"error": "The server made a mistake; its log says more."})
    deadline = time.monotonic() + 30
    while "ZeroDivisionError: secret" not in caplog.text:  # it is logged after the answer was sent
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert 'osr_requests_total{status="500"} 1.0' in server.ask(method="GET", path="/metrics")[1]["text"]
    assert server.ask(FILES[0])[0] == 200


class Slow:
    """Notes what it is asked for together, and takes its time."""

    batch_size = 4

    def __init__(self, classifier: object) -> None:
        self.classifier, self.asked = classifier, []

    def judge(self, images: list, decision: Decision, **options: int) -> object:
        self.asked.append((len(images), decision.accept))
        time.sleep(0.05)
        if any(image.size == 0 for image in images):
            raise ValueError("broken")
        return self.classifier.judge(images, decision, **options)


def test_what_waits_is_judged_together_by_the_same_decision(folder) -> None:  # noqa: F811
    slow = Slow(osr.load(folder))

    async def work() -> list:
        batcher = Batcher(slow)
        running = asyncio.create_task(batcher.run())
        half, none = Decision(accept=0.5), Decision()
        asked = [none, half, none, half, none, none, half, none]
        tasks = [
            asyncio.create_task(batcher.judge([IMAGES[number]], decision))
            for number, decision in enumerate(asked)
        ]
        await asyncio.sleep(0.02)
        tasks[7].cancel()  # its client went away
        bad = asyncio.create_task(batcher.judge([IMAGES[0][:0]], Decision(accept=0.1)))
        found = await asyncio.gather(*tasks, bad, return_exceptions=True)
        running.cancel()
        return found

    *found, gone, bad = asyncio.run(work())
    assert isinstance(gone, asyncio.CancelledError)
    assert str(bad) == "broken"
    assert slow.asked == [(4, None), (3, 0.5), (1, 0.1)] or slow.asked[0][0] in (1, 4)
    assert sum(count for count, _ in slow.asked) <= 9
    for number, judgement in enumerate(found):
        alone = slow.classifier.judge([IMAGES[number]])
        assert judgement.scores == pytest.approx(alone.scores, rel=1e-5)
