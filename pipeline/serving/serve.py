"""Command serve: the exported classifier behind HTTP, for applications in any language."""

from __future__ import annotations

import argparse
import errno
import socket
import sys
from contextlib import ExitStack, suppress

from osr.devices import set_cpu_threads
from osr.errors import InputError
from pipeline.serving.bodies import Limits
from pipeline.serving.load import load_folder
from pipeline.serving.service import create_app

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_OF_OTHERS = (
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
)  # a name may stand for addresses that are not in use here


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        InputError: the port is taken, or the host none of this machine's; the folder is none that
            `osr export` made, or was changed.
    """
    import uvicorn

    with ExitStack() as stack:
        sockets = [stack.enter_context(one) for one in listening(options.host, options.port)]
        classifier = load_folder(options.folder, allow_code=options.allow_code)
        set_cpu_threads(options.threads or "auto")
        limits = Limits(body_bytes=options.max_megabytes << 20, seconds=options.seconds)
        if options.host not in LOOPBACK:
            told = f"Other machines reach {options.host}: nobody has to log in, so keep them out.\n"
            sys.stderr.write(told)
        config = uvicorn.Config(
            create_app(classifier, limits),
            log_level="warning" if options.quiet else "info",
            timeout_keep_alive=5,
            server_header=False,
        )
        host = f"[{options.host}]" if ":" in options.host else options.host
        sys.stderr.write(f"Listening on http://{host}:{sockets[0].getsockname()[1]}; Ctrl-C ends it.\n")
        with suppress(KeyboardInterrupt):  # which it raises when it has ended
            uvicorn.Server(config).run(sockets=sockets)
    return 0


def listening(host: str, port: int) -> list[socket.socket]:
    """Sockets of every address of a host, before the seconds that a network takes to load.

    Raises:
        InputError: no such host, no address of this machine, or a port that is taken or kept.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"--host {host:.80}: no such name or address ({why}).") from None
    opened, refused = list[socket.socket](), list[OSError]()
    for family, kind, protocol, _, address in dict.fromkeys(found):
        one = None
        try:
            one = socket.socket(family, kind, protocol)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen()
            opened.append(one)
        except OSError as error:
            if one is not None:
                one.close()
            refused.append(error)
    fatal = [error for error in refused if not (opened and error.errno in _OF_OTHERS)]
    if fatal:
        for one in opened:
            one.close()
        raise InputError(
            f"Nobody can listen on port {port} of {host:.80} ({fatal[0].strerror}): choose another --port, or"
            " a --host of this machine."
        )
    return opened
