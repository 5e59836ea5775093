"""The page of `osr serve`: what it is, and, slowly, in a real browser.

The browser is Debian's chromium, driven by playwright-python:

    apt-get install chromium && pip install playwright
    pytest -m slow -n 0 tests/test_page.py

OSR_SCREENSHOTS=DIR keeps pictures of it, wide and narrow.
"""

import base64
import hashlib
import http.client
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from extracted import IMAGES
from test_export import folder  # noqa: F401 (fixture)
from test_predict import exportable, model, run  # noqa: F401 (fixtures)
from test_service import FILES, Server, server  # noqa: F401 (fixture)
from test_training_images import with_images  # noqa: F401 (fixture)

import osr
from osr.inference.judgement import Decision

WIDTHS = {"wide": 1280, "narrow": 360}


def test_the_page_is_one_file_that_loads_nothing_from_elsewhere(server: Server) -> None:  # noqa: F811
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/")
    answer = connection.getresponse()
    text, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    connection.close()
    assert (answer.status, answer.headers.get_content_type()) == (200, "text/html")
    linked = re.findall(r'\b(?:src|href|action)="([^"]*)"', text)
    assert linked == ["data:,", "docs", "openapi.json", "health", "metrics"]
    assert re.findall(r"https?://[^\s\"<]+", text) == ["http://www.w3.org/2000/svg"], "a name, not an address"
    assert policy.startswith("default-src 'none'; ")
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
        assert "unsafe" not in policy
    for name in re.findall(r'<(?:input|select)[^>]*id="(\w+)"', text):
        assert f'<label for="{name}">' in text
    assert 'role="status" aria-live="polite"' in text
    assert "img-src 'self' blob: data:; " in policy


def test_what_programs_may_ask_is_a_page_that_needs_no_other(server: Server) -> None:  # noqa: F811
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/docs", headers={"Host": 'a"<b>:1'})
    answer = connection.getresponse()
    text, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    connection.close()
    assert (answer.status, answer.headers.get_content_type()) == (200, "text/html")
    schema = server.ask(method="GET", path="/openapi.json")[1]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert f"<h2>{method.upper()} {path}</h2>" in text
            for entry in operation.get("parameters", ()):
                assert f'<th scope="row">{entry["name"]}</th>' in text
            for name in (*operation["responses"], *operation.get("requestBody", {}).get("content", ())):
                assert f'<th scope="row">{name}</th>' in text
    assert re.findall(r'\b(?:src|href|action)="([^"]*)"', text) == ["data:,", "openapi.json", "./"]
    assert "<b>" not in text
    assert "<script" not in text
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; ")


def test_the_scores_of_known_images_and_where_a_decision_parts_them(server: Server) -> None:  # noqa: F811
    def scores(query: str = "") -> tuple[int, dict]:
        return server.ask(method="GET", path="/scores", query=query)

    for query, decision in (
        ("", Decision()),
        ("?detector=mahalanobis&accept=0.5", Decision("mahalanobis", accept=0.5)),
        ("?threshold=0.25", Decision(threshold=0.25)),
    ):
        status, told = scores(query)
        known = server.classifier.scores[decision.detector or "maxlogit"]
        counts, edges = np.histogram(known, bins=len(told["counts"]))
        assert (status, told["num_images"]) == (200, 30)
        assert (told["counts"], told["edges"]) == (counts.tolist(), edges.tolist())
        labels = server.classifier.judge(IMAGES, decision).labels
        above = server.classifier.judge(IMAGES, decision).scores > told["threshold"]
        assert above.tolist() == [label == "unknown" for label in labels]
        assert told["expected_rejection"] == pytest.approx(server.classifier.expected_rejection(decision))
    for query, sentence in (
        ("?p_value=0.1", "Arguments may be detector, threshold, accept, not p_value."),
        ("?threshold=inf", "threshold must be a finite number."),
        ("?accept=2", "accept is 2.0, but must be above 0 and at most 1."),
    ):
        assert scores(query) == (422, {"error": sentence})


@pytest.fixture
def browser() -> Iterator:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def files(tmp_path_factory) -> list[Path]:
    """The toy's images, and a file that is no image."""
    place = tmp_path_factory.mktemp("images")
    paths = [place / f"{number}.png" for number in range(len(FILES))]
    for path, content in zip(paths, FILES, strict=True):
        path.write_bytes(content)
    (place / "text.png").write_text("no image")
    return [*paths, place / "text.png"]


def numbers_of(server: Server) -> tuple[int, int]:  # noqa: F811
    labels = server.classifier.predict(IMAGES).labels
    return next(i for i, label in enumerate(labels) if label != "unknown"), labels.index("unknown")


def keep(page, name: str) -> None:
    if target := os.environ.get("OSR_SCREENSHOTS"):
        Path(target).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(target) / f"{name}.png"), full_page=True)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_image_is_judged_and_shown(server, browser, files, width, scheme) -> None:  # noqa: F811
    page = browser.new_page(viewport={"width": WIDTHS[width], "height": 800}, color_scheme=scheme)
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"http://127.0.0.1:{server.port}/")
    known, unknown = numbers_of(server)
    verdict = page.get_by_role("status")
    for number in (known, unknown):
        page.get_by_label("Image file").set_input_files(files[number])
        label = server.classifier.predict([IMAGES[number]]).labels[0]
        page.get_by_text(f"{number}.png").wait_for()
        assert verdict.inner_text().startswith(label + "\n")
        picture = page.get_by_role("img", name="Histogram of the scores of 30 known images")
        assert picture.is_visible()
        assert page.get_by_role("row").count() == 4, "three classes below their heading"
        assert page.get_by_role("img", name="The image that was judged").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        keep(page, f"{width}_{scheme}_{label}")
    assert page.get_by_text("No training images are shown").is_visible()
    # Another decision judges the same image again.
    page.get_by_label("Known images to accept").fill("100")
    page.get_by_label("Known images to accept").press("Enter")
    accepted = server.classifier.judge([IMAGES[unknown]], Decision(accept=1.0)).labels[0]
    page.get_by_text("It rejects 0.0 % of known images.").wait_for()
    assert verdict.inner_text().startswith(accepted + "\n")
    page.get_by_label("Detector").select_option("mahalanobis")
    page.locator("#verdict:not([aria-busy])").wait_for()
    assert not complaints
    page.get_by_label("Image file").set_input_files(files[-1])
    page.get_by_text("image 0 is no image that can be read: its format is unknown.").wait_for()
    assert page.get_by_role("img").count() == 0, "nothing of the image before is left"
    keep(page, f"{width}_{scheme}_error")


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_the_nearest_training_images_are_shown(with_images, browser, files, width) -> None:  # noqa: F811
    with Server(osr.load(with_images)) as serving:
        page = browser.new_page(viewport={"width": WIDTHS[width], "height": 800})
        complaints = []
        page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
        page.goto(f"http://127.0.0.1:{serving.port}/")
        page.locator("#detector option").first.wait_for(state="attached")
        page.get_by_label("Image file").set_input_files(files[3])
        entries = page.get_by_role("list", name="Nearest training images").get_by_role("listitem")
        entries.first.wait_for()
        near = serving.classifier.predict([IMAGES[3]], neighbours=5).neighbours[0]
        told = [f"{one.class_name}, similarity {one.similarity:.2f}" for one in near]
        assert entries.all_inner_texts() == told
        page.wait_for_load_state("networkidle")
        assert entries.locator("img").evaluate_all("all => all.every(one => one.naturalWidth === 64)")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert not page.get_by_text("No training images are shown").is_visible()
        assert not complaints
        keep(page, f"{width}_training_images")


@pytest.mark.slow
def test_keys_reach_everything_in_order_and_are_seen(server, browser) -> None:  # noqa: F811
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.locator("#detector option").first.wait_for(state="attached")
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", reached[-1]
    assert reached == ["file", "detector", "accept", "what they may ask", "openapi.json", "health", "metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_what_programs_may_ask_is_shown(server, browser, width) -> None:  # noqa: F811
    page = browser.new_page(viewport={"width": WIDTHS[width], "height": 800})
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"http://127.0.0.1:{server.port}/docs")
    table = page.get_by_role("table", name="Arguments").first
    assert table.get_by_role("row", name="accept").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not complaints
    keep(page, f"{width}_docs")


@pytest.mark.slow
def test_a_dropped_and_a_pasted_image_are_judged(server, browser, files) -> None:  # noqa: F811
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.locator("#detector option").first.wait_for(state="attached")
    known, unknown = numbers_of(server)
    for number, event, holder in ((known, "drop", "dataTransfer"), (unknown, "paste", "clipboardData")):
        page.evaluate(
            """([bytes, name, event, holder]) => {
                const held = new DataTransfer();
                held.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
                const made = event === "drop" ? new DragEvent(event, {dataTransfer: held, bubbles: true})
                  : new ClipboardEvent(event, {clipboardData: held, bubbles: true});
                document.getElementById("drop").dispatchEvent(made);
            }""",
            [list(files[number].read_bytes()), f"{event}.png", event, holder],
        )
        page.get_by_text(f"{event}.png").wait_for()
        label = server.classifier.predict([IMAGES[number]]).labels[0]
        assert page.get_by_role("status").inner_text().startswith(label + "\n")


@pytest.mark.slow
def test_a_server_that_went_away_is_said(server, browser, files) -> None:  # noqa: F811
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.locator("#detector option").first.wait_for(state="attached")
    page.route("**/predict**", lambda route: route.abort())
    page.get_by_label("Image file").set_input_files(files[0])
    page.get_by_text("The server does not answer.").wait_for()
