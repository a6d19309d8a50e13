"""The page and the REST interface on this machine: `python -m emodet.app`.

Exit status: 2 for a mistake in the call, 130 after Ctrl-C, 143 after SIGTERM.
"""

import argparse
import contextlib
import logging
import os
import secrets
import socket
import ssl
import sys
import threading
import warnings
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from emodet.errors import EmodetError
from emodet.termination import Terminated, raise_on_sigterm

if TYPE_CHECKING:
    from emodet.app.settings import Settings

__all__ = ["main"]

TOKEN_VARIABLE = "EMODET_TOKEN"

_NEEDED = ("fastapi", "uvicorn", "python_multipart")
_EXAMPLES = """\
examples:
  python -m emodet.app --open
  python -m emodet.app --model fp32 --model mine=run/emodet-int8.onnx
  python -m emodet.app --host 0.0.0.0 --certificate cert.pem --key key.pem
  curl --data-binary @photo.jpg http://127.0.0.1:8000/v1/recognize

The REST interface is described at /openapi.json. Anyone who reaches the server from another machine needs the token
that it prints, or that EMODET_TOKEN holds.

exit status: 2 a mistake in the call, 130 stopped by Ctrl-C, 143 stopped by SIGTERM
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is stopped.

    Args:
        argv: Its arguments; None takes them from the command line.

    Returns:
        The exit status, as the module's first lines say.
    """
    options = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        with raise_on_sigterm():
            _require_extra()
            _serve(options)
        return 0
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except Terminated:
        return 143
    except KeyboardInterrupt:
        return 130


def _serve(options: argparse.Namespace) -> None:
    _check_certificate(options.certificate, options.key)
    token = options.token or os.environ.get(TOKEN_VARIABLE) or None
    # Taken before the models are opened: a port in use is said at once.
    with _listening(options.host, options.port) as listener:
        from PIL import Image

        from emodet.app.application import create_app
        from emodet.app.settings import LOOPBACK

        local = _is_loopback(listener)
        if not local and token is None:
            token = secrets.token_urlsafe(24)
        settings = _settings(options, token, local, LOOPBACK)
        # `decode_rgb` says what is refused; Pillow need not warn of it as well.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, options.max_pixels)
        if options.log:
            logging.getLogger("emodet.app").setLevel(logging.INFO)
        application = create_app(settings)
        address = _address(listener, options.certificate is not None)
        link = f"{address}?token={token}" if token else address

        def started() -> None:
            print(f"emodet: {link}")
            model = application.recognizers.offers[application.recognizers.default]
            others = [name for name in application.recognizers.offers if name != model.name]
            also = f" (also {', '.join(others)})" if others else ""
            print(f"model: {model.name}{also}; faces: {application.recognizers.description}")
            if application.page_problem is not None:
                print(f"the REST interface works, the page does not: {application.page_problem}")
            if not local and options.certificate is None:
                print("browsers give the page a camera only over HTTPS here: --certificate FILE --key FILE")
            print("Ctrl-C ends", flush=True)
            if options.open:
                # Some browsers are waited for.
                threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()

        try:
            _run(application, application.stop, started, listener, options)
        finally:
            application.close()


def _run(
    application: object,
    stopping: Callable[[], None],
    started: Callable[[], None],
    listener: socket.socket,
    options: argparse.Namespace,
) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if not self.should_exit:
                started()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # First of all: answers that would go on keep it from ending.
            stopping()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        application,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        limit_concurrency=options.connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.key,
    )
    # What is cut off when it ends needs no lines of its own.
    logging.getLogger("uvicorn.error").addFilter(lambda record: "graceful shutdown" not in record.getMessage())
    Server(config).run(sockets=[listener])


def _settings(options: argparse.Namespace, token: str | None, local: bool, loopback: frozenset[str]) -> "Settings":
    from emodet.app.settings import Limits, Settings

    named = frozenset(name.lower() for name in options.allowed_host)
    hosts = named | loopback if local or named else None
    return Settings(
        models=tuple(options.model),
        detector=options.detector,
        providers=options.providers,
        threads=options.threads,
        workers=options.workers,
        token=token,
        hosts=hosts,
        secure=local or options.certificate is not None,
        tls=options.certificate is not None,
        log=options.log,
        limits=Limits(
            image_bytes=options.max_image * 1_000_000,
            pixels=options.max_pixels,
            video_bytes=options.max_video * 1_000_000,
            video_seconds=options.max_minutes * 60.0,
            waiting=options.queue,
            keep_seconds=options.keep * 60.0,
        ),
    )


def _require_extra() -> None:
    missing = [name.replace("_", "-") for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise EmodetError(
            f"python -m emodet.app needs {', '.join(missing)}, which the light install leaves out: "
            "pip install 'emodet[app]'"
        )


def _check_certificate(certificate: Path | None, key: Path | None) -> None:
    if certificate is None:
        if key is not None:
            raise EmodetError(f"--key {key}: a key needs its certificate: --certificate FILE")
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except FileNotFoundError:
        missing = certificate if not certificate.exists() else key
        raise EmodetError(f"--certificate, --key: there is no file {missing}") from None
    except (OSError, ssl.SSLError) as problem:
        raise EmodetError(
            f"--certificate {certificate}, --key {key or 'none'}: not a PEM certificate with its key, which has no "
            f"password ({problem.strerror or problem})"
        ) from None


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise EmodetError(f"--host {host}: this machine has no such address") from None
    with socket.socket(family, kind, protocol) as listener:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
            listener.listen(128)
        except OSError as problem:
            raise EmodetError(
                f"--host {host} --port {port}: {problem.strerror or problem}; take another with --port N, or 0 for a "
                "free one"
            ) from None
        yield listener


def _is_loopback(listener: socket.socket) -> bool:
    address = str(listener.getsockname()[0])
    return address == "::1" or address.startswith("127.")


def _address(listener: socket.socket, tls: bool) -> str:
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = _reached_at()
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}/"


def _reached_at() -> str:
    """The address under which others most likely reach this machine. Nothing is sent for it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return socket.gethostname()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emodet.app",
        description="Serve the page and the REST interface: emotions in pictures, videos and cameras.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    where = parser.add_argument_group("where it is reached")
    where.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    where.add_argument("--port", type=_port, default=8000, metavar="N", help="0 for a free one (default: %(default)s)")
    where.add_argument(
        "--token",
        metavar="TEXT",
        help=f"what requests must show (default: {TOKEN_VARIABLE}, else made and printed where other machines reach "
        "the server; the variable is not seen by others on this machine)",
    )
    where.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name under which the server is called, behind a proxy for instance; may be repeated",
    )
    where.add_argument("--certificate", type=Path, metavar="FILE", help="PEM certificate, for HTTPS")
    where.add_argument("--key", type=Path, metavar="FILE", help="its PEM key, where it is not in the same file")
    what = parser.add_argument_group("recognising")
    what.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="FILE",
        help="model file, NAME=FILE, int8 or fp32; may be repeated, the first is the default (default: both that come "
        "with the package)",
    )
    what.add_argument("--detector", default="auto", metavar="NAME", help="as for emodet.predict (default: auto)")
    what.add_argument("--providers", type=lambda text: tuple(text.split(",")), default=("cpu",), metavar="LIST",
                      help="as for emodet.predict (default: cpu)")  # fmt: skip
    what.add_argument("--threads", type=_count, metavar="N", help="threads of each part (default: one per core)")
    what.add_argument(
        "--workers", type=_count, default=2, metavar="N", help="pictures at the same time (default: %(default)s)"
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-image", type=_count, default=20, metavar="MB", help="of a picture (default: %(default)s)"
    )
    limits.add_argument(
        "--max-pixels",
        type=_count,
        default=40_000_000,
        metavar="N",
        help="of a picture or a frame (default: %(default)s)",
    )
    limits.add_argument(
        "--max-video", type=_count, default=2000, metavar="MB", help="of a video (default: %(default)s)"
    )
    limits.add_argument("--max-minutes", type=_count, default=60, metavar="N", help="of a video (default: %(default)s)")
    limits.add_argument("--queue", type=_count, default=16, metavar="N", help="pictures that wait (default: 16)")
    limits.add_argument("--keep", type=_count, default=60, metavar="MINUTES", help="results of videos (default: 60)")
    limits.add_argument(
        "--connections", type=_count, default=256, metavar="N", help="at the same time (default: %(default)s)"
    )
    limits.add_argument("--log", action="store_true", help="a line for each request, to standard error")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
