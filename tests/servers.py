"""A web server for tests that behaves well, badly or not at all."""

from __future__ import annotations

import contextlib
import http.server
import threading

DATA = bytes(range(256)) * 40  # 10240 bytes
SIZE = len(DATA)
ETAG = '"one"'


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.headers.get("Range"), self.headers.get("If-Range")))
        with contextlib.suppress(OSError):  # the client has gone
            self.server.answer(self)

    def reply(self, body, *, status=200, cut=None, length=True, **headers):
        """Answer with the body, or with its first `cut` bytes although all are announced."""
        self.send_response(status)
        if length:
            self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[:cut])

    def serve(self, data=DATA, etag=ETAG, cut=None):
        """What a good server does, ranges and all."""
        given, condition = self.headers.get("Range"), self.headers.get("If-Range")
        headers = {"ETag": etag} if etag else {}
        if given is None or (condition is not None and condition != etag):
            self.reply(data, cut=cut, **headers)
            return
        start = int(given.removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            self.reply(b"", status=416, Content_Range=f"bytes */{len(data)}")
            return
        span = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.reply(data[start:], status=206, cut=cut, Content_Range=span, **headers)

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    """`answer` does the work, or one of `answers` for each request; `asked` tells what came."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.answer = Handler.serve
        self.over = threading.Event()  # ends the answers that hang
        self.base = f"http://127.0.0.1:{self.server_port}"
        self.url = f"{self.base}/file.bin"

    def answers(self, *each):
        left = list(each)

        def answer(handler):
            left.pop(0)(handler)

        self.answer = answer

    @property
    def ranges(self):
        return [given for given, _ in self.asked]
