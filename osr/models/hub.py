"""Published weights of timm's networks: where the hub cannot be reached, that is known within seconds."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

PATIENCE_S = 8.0  # names and addresses of a network that works are found in far less


@contextmanager
def published_weights() -> Iterator[None]:
    """The hub is asked once whether it is there; if it is not, weights meanwhile come from its cache.

    By itself huggingface_hub asks twelve times, in some 50 seconds, before it looks there.

    Raises:
        ConnectionError: the hub does not answer, and the weights are not in its cache.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    reason = "" if before else unreachable(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = before or bool(reason)
    try:
        yield
    except FileNotFoundError as error:
        if not reason:
            raise
        raise ConnectionError(reason) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def unreachable(address: str, *, seconds: float = PATIENCE_S) -> str:
    """Why nothing listens at an address or, where the environment names one, at the proxy before it.

    Args:
        address: with its scheme, such as https://host or http://host:8080.
        seconds: to wait at most, for the name and for the connection together.

    Returns:
        A few words; empty where something listens.
    """
    asked = urlsplit(address)
    proxies = getproxies()
    proxy = proxies.get(asked.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(asked.netloc):
        asked = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    host, port = asked.hostname or "", asked.port or {"https": 443, "http": 80}.get(asked.scheme, 1080)
    found = list[str]()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
        except OSError as error:
            found.append(f"{host} cannot be reached: {error.strerror or error}")
        else:
            found.append("")

    asking = threading.Thread(target=connect, daemon=True)  # nothing else ends the search for a name
    asking.start()
    asking.join(seconds)
    return found[0] if found else f"{host} did not answer within {seconds:g} seconds"
