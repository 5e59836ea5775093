"""Published weights where nobody answers: said within seconds, and the cache is enough."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
from huggingface_hub import constants, is_offline_mode
from safetensors.torch import save_file

from osr.errors import InputError
from osr.models.backbones import build_backbone
from osr.models.hub import unreachable

TINY = {"channels": 3, "image_size": 32}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """Something that listens where the hub is looked for; its cache is empty, and nobody's proxies count."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        yield server


def test_a_hub_that_is_not_there_is_asked_once(hub: socket.socket) -> None:
    hub.close()
    with pytest.raises(InputError, match=r"\(127\.0\.0\.1 cannot be reached: Connection refused\)"):
        build_backbone("resnet10t", weights="pretrained", **TINY)
    assert not is_offline_mode()


def test_what_is_in_the_cache_needs_no_hub(hub: socket.socket, tmp_path: Path) -> None:
    hub.close()
    published = timm.create_model("resnet10t", pretrained=False).state_dict()
    folder = tmp_path / "models--timm--resnet10t.c3_in1k"
    for name in ("snapshots/1", "refs"):
        (folder / name).mkdir(parents=True)
    (folder / "refs/main").write_text("1")
    save_file(published, folder / "snapshots/1/model.safetensors", {"format": "pt"})
    found = build_backbone("resnet10t", weights="pretrained", **TINY).state_dict()
    assert found["conv1.0.weight"].equal(published["conv1.0.weight"])


def test_a_hub_that_is_there_is_asked_for_the_weights(
    monkeypatch: pytest.MonkeyPatch, hub: socket.socket
) -> None:
    asked = []

    def fail(*_arguments: object, **_options: object) -> None:
        asked.append(is_offline_mode())
        raise OSError("a page of errors")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", fail)
    with pytest.raises(InputError, match=r"could not be downloaded \(a page of errors\)"):
        build_backbone("resnet10t", weights="pretrained", **TINY)
    assert asked
    assert not any(asked)
    hub.accept()[0].close()


def test_an_offline_mode_of_the_user_is_kept(monkeypatch: pytest.MonkeyPatch, hub: socket.socket) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.settimeout(0.01)
    with pytest.raises(InputError, match="could not be downloaded"):
        build_backbone("resnet10t", weights="pretrained", **TINY)
    with pytest.raises(TimeoutError):  # nobody asked
        hub.accept()
    assert is_offline_mode()


@pytest.mark.usefixtures("hub")
def test_where_the_hub_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    listening, nowhere = constants.ENDPOINT, "http://nowhere.invalid"
    assert unreachable(listening) == ""
    assert unreachable(nowhere).startswith("nowhere.invalid cannot be reached: ")
    monkeypatch.setenv("http_proxy", listening)
    assert unreachable(nowhere) == ""  # the proxy finds names
    assert unreachable("https://nowhere.invalid")  # and is none for this
    monkeypatch.setenv("https_proxy", listening.removeprefix("http://"))
    assert unreachable("https://nowhere.invalid") == ""
    monkeypatch.setenv("no_proxy", "nowhere.invalid")
    assert unreachable(nowhere)


def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def wait(*_arguments: object, **_options: object) -> None:
        over.wait()
        raise OSError

    monkeypatch.setattr(socket, "create_connection", wait)
    assert unreachable("http://1.2.3.4", seconds=0.01) == "1.2.3.4 did not answer within 0.01 seconds"
    over.set()
