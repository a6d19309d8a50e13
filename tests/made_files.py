"""Encoded pictures, addresses on this machine that answer with files, and rows of CSV files."""

import csv
import io
import json
import struct
import threading
import zlib
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


def png_bomb(width, height):
    """A PNG of about a kilobyte whose header says how large it is."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@contextmanager
def web_server(answer, logins=None):
    """Serve ``answer(path)``: content type and body or its parts, ``Location`` and an address, or None for 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if logins is not None:
                logins.append(self.headers["Authorization"])
            kind, body = answer(self.path) or ("text/plain", None)
            self.send_response(404 if body is None else 302 if kind == "Location" else 200)
            self.send_header(*("Location", body) if kind == "Location" else ("Content-Type", kind))
            if isinstance(body, bytes):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # the client may have enough
                for part in [body] if isinstance(body, bytes) else [] if isinstance(body, str | None) else body:
                    self.wfile.write(part)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def csv_rows(file, empty=True):
    """The rows of a CSV file by column, with or without empty cells."""
    with file.open(newline="", encoding="utf-8") as stream:
        return [{name: cell for name, cell in row.items() if cell or empty} for row in csv.DictReader(stream)]


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def put(path, data):
    """Write bytes, with the folders above, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def put_text(path, *lines):
    """Write lines in UTF-8, with the folders above, and return the path."""
    return put(path, "\n".join([*lines, ""]).encode())


def encoded(picture, kind="PNG", **options):
    """A picture, uint8 (H, W, 3) RGB or one of Pillow's, as the bytes of a file of this kind."""
    stream = io.BytesIO()
    made = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    made.save(stream, kind, **options)
    return stream.getvalue()
