"""The report in a real browser: it is shown, and nothing but the page is asked for."""

import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fedsynth.report.page import ReportPage, write_report


@pytest.mark.engines
def test_a_browser_asks_for_the_page_and_nothing_else(toy_page: ReportPage, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    write_report(tmp_path / "report", toy_page)
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    with serving(text) as (port, asked):
        subprocess.run(
            [
                chromium,
                *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-sync", "--disable-background-networking", "--disable-component-update"),
                *("--no-proxy-server", "--disable-features=NetworkTimeServiceQuerying"),
                f"--host-resolver-rules=MAP * 127.0.0.1:{port}",
                f"--user-data-dir={tmp_path / 'profile'}",
                f"--screenshot={tmp_path / 'page.png'}",
                f"http://report.test:{port}/index.html",
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )

    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert asked == ["/index.html"]


class serving:  # noqa: N801  (reads as a verb)
    """A web server on loopback that knows one page and remembers what was asked for."""

    def __init__(self, text: str) -> None:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._asked = asked
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> tuple[int, list[str]]:
        self._thread.start()
        return self._server.server_port, self._asked

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
