"""A web server on loopback that serves a folder, counts what it is asked for, and breaks off when it is told to."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

PIECE = 2**14


class WebServer:
    """What tests see of it.

    Attributes:
        url: its address.
        asked: (path, range) of each GET, in their order.
        knows_ranges: whether it sends a part of a file where it is asked for one.
        cuts: after so many bytes the next answers end, and their connections are closed.
        held: while it is not set, an answer stops in its middle.
        is_half_sent: set when one has.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, str | None]] = []
        self.knows_ranges = True
        self.cuts: list[int] = []
        self.held = threading.Event()
        self.held.set()
        self.is_half_sent = threading.Event()

    def asked_for(self, name: str) -> list[str | None]:
        """The ranges of the GETs of a file of this name."""
        return [found for path, found in self.asked if path.rpartition("/")[2] == name]


@contextmanager
def web_server(folder: Path) -> Iterator[WebServer]:
    """Serve the folder's files, as they are at the time of each request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self._head()

        def do_GET(self) -> None:
            server.asked.append((unquote(self.path), self.headers.get("Range")))
            data = self._head()
            count = len(data)
            if server.cuts and count > PIECE:
                count = server.cuts.pop(0)
                self.close_connection = True
            for start in range(0, count, PIECE):
                if start >= count // 2 and not server.held.is_set():
                    server.is_half_sent.set()
                    server.held.wait(60)
                try:
                    self.wfile.write(data[start : min(start + PIECE, count)])
                except OSError:  # the other side was killed
                    self.close_connection = True
                    return

        def _head(self) -> bytes:
            """Send the answer's head; returns its body."""
            file = folder / unquote(self.path).lstrip("/")
            if not file.is_file():
                self.send_error(404)
                return b""
            data = file.read_bytes()
            wanted = re.fullmatch("bytes=([0-9]+)-", self.headers.get("Range") or "")
            if wanted and server.knows_ranges:
                start, end = int(wanted[1]), len(data)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
                data = data[start:]
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            return data

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        server = WebServer(f"http://127.0.0.1:{listener.server_address[1]}")
        thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.held.set()
            listener.shutdown()
            thread.join()
