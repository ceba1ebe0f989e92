"""An HTTP proxy on loopback that answers chosen requests as a bad network does: lost, doubled, refused, cut short."""

from __future__ import annotations

import http.client
import http.server
import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.chaos.s3_server import s3_bucket
from wae_core.storage import objects

# lost: done, and answered with a 500 · dropped: done, and the connection is closed · doubled: done twice, and the
# second answer given · unavailable: not done, answered with a 503 · truncated: done, half of the body is answered.
FAULTS = ("lost", "dropped", "doubled", "unavailable", "truncated")
NOT_HANDED_ON = ("transfer-encoding", "connection", "content-length")

Rule = Callable[[str, str], str | None]  # method, path -> a fault, or None


class FaultyProxy:
    """What stands between a client and its server.

    Attributes:
        rule: asked for each request; it may be replaced at any time.
        requests: method and path of all that were made.
    """

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.rule: Rule = lambda method, path: None
        self.requests: list[tuple[str, str]] = []

    def once(self, fault: str, method: str, part: str) -> None:
        """Have the next request of that method, whose path holds `part`, meet the fault."""
        left = [fault]

        def rule(found_method: str, path: str) -> str | None:
            return left.pop() if left and found_method == method and part in path else None

        self.rule = rule


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def faulty_proxy(upstream_port: int) -> Iterator[tuple[FaultyProxy, int]]:
    """Serve before 127.0.0.1:`upstream_port`; yields the proxy and its own port."""
    proxy = FaultyProxy(upstream_port)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else the body waits 40 ms for the other side to acknowledge the head

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else b""
            proxy.requests.append((self.command, self.path))
            fault = proxy.rule(self.command, self.path)
            if fault == "unavailable":
                self._refuse(503)
                return
            for _ in range(2 if fault == "doubled" else 1):
                upstream = http.client.HTTPConnection("127.0.0.1", proxy.upstream_port, timeout=60)
                upstream.request(self.command, self.path, body, dict(self.headers.items()))
                response = upstream.getresponse()
                data = response.read()
                upstream.close()
            if fault == "lost":
                self._refuse(500)
            elif fault == "dropped":
                self.close_connection = True
                self.connection.close()
            else:
                self._hand_on(response, data, is_truncated=fault == "truncated")

        def _refuse(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _hand_on(self, response: http.client.HTTPResponse, data: bytes, is_truncated: bool) -> None:
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in NOT_HANDED_ON:
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            length = response.getheader("Content-Length") if is_head else str(len(data))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if not is_head:
                self.wfile.write(data[: len(data) // 2] if is_truncated else data)
                self.close_connection = is_truncated

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    with _Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy, server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def faulty_bucket() -> Iterator[FaultyProxy]:
    """Serve an empty bucket, s3://chaos, behind a proxy, to which the environment of S3 clients points meanwhile."""
    before = dict(os.environ)
    try:
        with s3_bucket():
            port = urlsplit(os.environ["AWS_ENDPOINT_URL"]).port
            assert port is not None
            with faulty_proxy(port) as (proxy, own_port):
                os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{own_port}"
                objects._open_store.cache_clear()
                yield proxy
    finally:
        objects._open_store.cache_clear()
        os.environ.clear()
        os.environ.update(before)
