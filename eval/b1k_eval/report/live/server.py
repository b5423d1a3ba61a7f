"""Serving the page on the loopback interface, read-only.

A request that names another host is refused: a page of elsewhere, whose name is made to point here,
must not read the runs. What a pass does not prove: that no other user of the machine can read them.
"""

from __future__ import annotations

import json
import re
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from b1k_envs.errors import UsageError
from b1k_eval.report.live.pages import LivePages
from b1k_eval.report.page import FOLDER, script

LOOPBACK = "127.0.0.1"

_HERE = Path(__file__).parent
_ASSETS = _HERE.parent / "assets"
_KINDS = {".js": "text/javascript", ".css": "text/css"}


class PageServer(ThreadingHTTPServer):
    """Serves `pages` until it is shut down."""

    daemon_threads = True

    def __init__(self, pages: LivePages, port: int) -> None:
        """Listen on a port; 0 for any.

        Raises:
            UsageError: The port is taken.
        """
        self.pages = pages
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"--port {port} cannot be used ({error.strerror}): leave it out for a free one"
            ) from error

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Say nothing of a browser that has gone away."""


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body of an answer go out together
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host not in (LOOPBACK, "localhost"):
            self.send_error(403, "this server is for its own machine")
            return
        pages, path = self.server.pages, unquote(urlsplit(self.path).path)
        if path == "/":
            self._answer(pages.made.html, "text/html")
        elif path == "/live.json":
            state = {"version": pages.made.version, "lines": pages.lines}
            self._answer(json.dumps(state), "application/json")
        elif path == "/index.json":
            self._answer(json.dumps(pages.made.index), "application/json")
        elif path == f"/{FOLDER}/data/index.js":
            self._answer(script("start", pages.made.index), "text/javascript")
        elif match := re.fullmatch(rf"/{FOLDER}/assets/([\w.-]+)", path):
            self._asset(match[1])
        elif match := re.fullmatch(rf"/{FOLDER}/data/(.+)\.js", path):
            self._episode(match[1])
        elif match := re.fullmatch(r"/videos/(.+)\.mp4", path):
            self._video(match[1])
        else:
            self.send_error(404)

    def log_message(self, *_: Any) -> None:  # noqa: ANN401
        """Be quiet: the terminal is for the address."""

    def _answer(self, text: str, kind: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    def _asset(self, name: str) -> None:
        # That which asks a server is none of the files that a page from disk has.
        file = (_HERE if name == "live.js" else _ASSETS) / name
        if file.suffix not in _KINDS or not file.is_file():
            self.send_error(404)
            return
        self._answer(file.read_text(encoding="utf-8"), _KINDS[file.suffix])

    def _episode(self, name: str) -> None:
        try:
            self._answer(self.server.pages.detail(name), "text/javascript")
        except KeyError:
            self.send_error(404)

    def _video(self, name: str) -> None:
        """Send a video, or the part of it that was asked for (RFC 9110, one range)."""
        episode = self.server.pages.made.episodes.get(name)
        video = None if episode is None else episode.video
        if video is None:
            self.send_error(404)
            return
        with video.open("rb") as file:
            size = video.stat().st_size
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            first = int(match[1]) if match else 0
            last = min(int(match[2]) if match and match[2] else size - 1, size - 1)
            if first > last:
                self.send_error(416)
                return
            self.send_response(206 if match else 200)
            if match:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last - first + 1))
            self.end_headers()
            file.seek(first)
            if last == size - 1:
                shutil.copyfileobj(file, self.wfile)
            else:
                self.wfile.write(file.read(last - first + 1))
