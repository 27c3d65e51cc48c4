"""Takes a picture of each dashboard: `python dashboards/preview/pictures.py KEPT_FOLDER INTO_FOLDER`.

KEPT_FOLDER has what `tests/support/dashboard_capture.py` kept; `npm run build` was run here. Needs Chromium and Pillow.
"""
# ruff: noqa: INP001 - a script, of no package

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

HERE = Path(__file__).parent
WIDTH, ROW, HEAD = 1500, 38, 88  # as src/main.tsx lays them out
COLOURS = 128  # a picture of text and flat colours needs no more, and is a third as large
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=20000",
)


class _Served(SimpleHTTPRequestHandler):
    """The built page, and the kept answers under `/kept/`."""

    kept = Path()

    def translate_path(self, path: str) -> str:
        name = path.partition("?")[0]
        if name.startswith("/kept/"):
            return str(self.kept / Path(name).name)
        return super().translate_path(path)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main(kept: Path, into: Path) -> None:
    """Draw every file of `kept`."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("no chromium on PATH")
    into.mkdir(parents=True, exist_ok=True)
    _Served.kept = kept
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Served, directory=str(HERE / "out"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for path in sorted(kept.glob("*.json")):
            picture = into / f"{path.stem}.png"
            _shoot(chromium, f"http://127.0.0.1:{server.server_port}/?kept={path.name}", _height(path), picture)
            sys.stdout.write(f"{picture} {picture.stat().st_size // 1000} kB\n")
        server.shutdown()


def _height(path: Path) -> int:
    panels = json.loads(path.read_text(encoding="utf-8"))["dashboard"]["panels"]
    return HEAD + ROW * max(int(panel["gridPos"]["y"]) + int(panel["gridPos"]["h"]) for panel in panels)


def _shoot(chromium: str, url: str, height: int, picture: Path) -> None:
    with TemporaryDirectory() as profile:
        subprocess.run(  # noqa: S603 - our own page
            [
                chromium,
                *_FLAGS,
                f"--user-data-dir={profile}",
                f"--window-size={WIDTH},{height}",
                f"--screenshot={picture}",
                url,
            ],
            check=True,
            capture_output=True,
            timeout=180,
        )
    with Image.open(picture) as drawn:
        drawn.convert("RGB").quantize(COLOURS).save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
