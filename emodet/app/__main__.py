"""Serve the page and the REST interface: `python -m emodet.app`.

Exit status: 2 for a user error, 130 after Ctrl-C, 143 after SIGTERM.
"""

import argparse
import contextlib
import ipaddress
import logging
import os
import secrets
import socket
import ssl
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emodet.app.settings import LOOPBACK, Limits, Settings
from emodet.errors import EmodetError, os_errors
from emodet.installation import command_parser, count, exit_status, exit_with, named, needed, number

if TYPE_CHECKING:
    from fastapi import FastAPI


TOKEN_VARIABLE = "EMODET_TOKEN"

_SHUTDOWN_S = 2
# Option, field of `Limits`, the field's value for 1, unit, help.
_LIMITS = (
    ("--max-image", "image_bytes", 1_000_000, "MB", "size of an image"),
    ("--max-pixels", "pixels", 1, "N", "pixels of an image or a video frame"),
    ("--max-video", "video_bytes", 1_000_000, "MB", "size of a video"),
    ("--max-minutes", "video_seconds", 60, "N", "duration of a video"),
    ("--queue", "waiting", 1, "N", "images in the queue"),
    ("--keep", "keep_seconds", 60, "MINUTES", "lifetime of results of videos"),
)
_EXAMPLES = """\
examples:
  python -m emodet.app --open
  python -m emodet.app --model fp32 --model mine=run/emodet-int8.onnx
  python -m emodet.app --host 0.0.0.0 --certificate cert.pem --key key.pem
  curl --data-binary @photo.jpg http://127.0.0.1:8000/v1/recognize

/docs and /openapi.json describe the REST interface. Clients on other machines need the token that the command prints,
or the value of EMODET_TOKEN.

exit status: 2 user error, 130 stopped by Ctrl-C, 143 stopped by SIGTERM
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is stopped; returns the exit status."""
    options = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    return exit_status(lambda: _serve(options))


def _serve(options: argparse.Namespace) -> int:
    needed("fastapi", named("app"), "app")
    _check_certificate(options.certificate, options.key)
    # Before loading the models, so that a port in use is reported at once.
    with _listener(options.host, options.port) as listener:
        from emodet.app.application import create_app

        settings = _settings(options, listener)
        app = create_app(settings)
        link = _address(listener, settings.tls) + (f"?token={settings.token}" if settings.token else "")
        server = app.state.server
        print(f"emodet: {link}")
        default, *others = server.models
        other_models = f" (also {', '.join(others)})" if others else ""
        print(f"model: {default}{other_models}; faces: {server.auto.description}")
        if server.page_problem is not None:
            print(f"the page is not available, only the REST interface: {server.page_problem}")
        if not settings.secure:
            print("browsers allow the camera only over HTTPS here: --certificate FILE --key FILE")
        print("Ctrl-C stops the server", flush=True)
        if options.open:
            # In a thread, because some browsers block until they are closed.
            threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()
        _run(app, listener, options)
    return 0


def _run(app: "FastAPI", listener: socket.socket, options: argparse.Namespace) -> None:
    import uvicorn

    from emodet.app.connections import LimitedProtocol

    config = uvicorn.Config(
        app,
        http=LimitedProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        limit_concurrency=options.connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_SHUTDOWN_S,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.key,
    )
    server = uvicorn.Server(config)
    # Cancelled requests during a shutdown are not errors.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)
    server.run(sockets=[listener])


def _settings(options: argparse.Namespace, listener: socket.socket) -> Settings:
    address = listener.getsockname()[0].partition("%")[0]
    local = ipaddress.ip_address(address).is_loopback
    token = (os.environ.get(TOKEN_VARIABLE) or None) if options.token is None else options.token
    # The printed address can be another loopback address, such as 127.0.1.1 for the host name in Debian.
    names = frozenset(name.lower() for name in (*options.allowed_host, *((options.host, address) if local else ())))
    return Settings(
        models=tuple(options.model),
        detector=options.detector,
        providers=options.providers,
        threads=options.threads,
        workers=options.workers,
        token=secrets.token_urlsafe(24) if token is None and not local else token,
        hosts=names | LOOPBACK if local or names else None,
        secure=local or options.certificate is not None,
        tls=options.certificate is not None,
        limits=Limits(**{field: factor * getattr(options, field) for _, field, factor, *_ in _LIMITS}),
    )


def _check_certificate(certificate: Path | None, key: Path | None) -> None:
    if certificate is None and key is not None:
        raise EmodetError(f"--key {key}: a key needs its certificate: --certificate FILE")
    if certificate is None:
        return
    names = f"--certificate {certificate}, --key {key or certificate}"
    with os_errors(f"{names}: expected PEM files without a password"):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")


def _listener(host: str, port: int) -> socket.socket:
    way_out = "; choose another port with --port N (0 for a free one), or an address of this machine"
    with os_errors(f"--host {host} --port {port}: cannot be listened on", way_out, UnicodeError, TypeError):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # :: also listens on the IPv4 addresses; `_address` returns one of them.
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, dualstack_ipv6=both)


def _address(listener: socket.socket, tls: bool) -> str:
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
        # Address of the default route, at which other machines probably reach this one; nothing is sent.
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            host = probe.getsockname()[0]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}/"


def _parser() -> argparse.ArgumentParser:
    purpose = "Serve the page and the REST interface: facial emotion recognition in images, videos and cameras."
    parser = command_parser("app", purpose, _EXAMPLES)
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    add = parser.add_argument_group("network").add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)")
    port = number("a port from 0 to 65535", 0, 65535, int)
    add("--port", type=port, default=8000, metavar="N", help="0 for a free one (default: %(default)s)")
    token = f"token that requests must send (default: {TOKEN_VARIABLE}, else a random one unless the server is local)"
    add("--token", metavar="TEXT", help=token)
    name = "additional name of the server in the Host header, for example behind a proxy; repeatable"
    add("--allowed-host", action="append", default=[], metavar="NAME", help=name)
    add("--certificate", type=Path, metavar="FILE", help="PEM certificate, for HTTPS")
    add("--key", type=Path, metavar="FILE", help="PEM key, if it is not in the same file")
    add = parser.add_argument_group("recognition").add_argument
    model = "FILE, NAME=FILE, int8, accurate or fp32; repeatable, the first is the default (default: the shipped ones)"
    add("--model", action="append", default=[], metavar="FILE", help=model)
    add("--detector", default="auto", metavar="NAME", help="as in emodet.predict (default: %(default)s)")
    providers = "as in emodet.predict (default: cpu)"
    add("--providers", type=lambda text: tuple(text.split(",")), default=("cpu",), metavar="LIST", help=providers)
    add("--threads", type=count, metavar="N", help="threads per ONNX Runtime call (default: one per core)")
    add("--workers", type=count, default=2, metavar="N", help="images in parallel (default: %(default)s)")
    add = parser.add_argument_group("limits").add_argument
    for name, field, factor, unit, meaning in _LIMITS:
        default = int(getattr(Limits(), field) / factor)
        add(name, type=count, dest=field, default=default, metavar=unit, help=f"{meaning} (default: %(default)s)")
    add("--connections", type=count, default=256, metavar="N", help="open connections (default: %(default)s)")
    return parser


if __name__ == "__main__":
    exit_with(main)
