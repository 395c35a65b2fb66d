"""The page of the listening model, served to tests by a thread of theirs."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import listening_model
import pytest

from transavs.apps.web import build_parser, build_server

PATIENCE_SECONDS = 60


@contextmanager
def serve_page(folder: Path, max_seconds: int) -> Iterator[Any]:
    """Yields the server, at a free port of this machine, for files of 1 MB.

    Args:
        folder: for the model and the page's files (``server.files``).
        max_seconds: the longest film.
    """
    with pytest.MonkeyPatch.context() as patch, socket.socket() as listener:
        # build_server sets some of them for good.
        for name in ("ANALYTICS_ENABLED", "TEMP_DIR", "SHARE", "SSR_MODE", "MCP_SERVER"):
            patch.setenv(f"GRADIO_{name}", "")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        patch.setenv("DETECTRON2_DATASETS", str(folder / "none"))
        config = listening_model.write_config(folder)
        words = ["--config-file", str(config), "--weights", str(folder / "model.pth")]
        words += ["--device", "cpu", "--max-seconds", str(max_seconds), "--max-megabytes", "1"]
        server: Any = build_server(build_parser().parse_args(words), folder / "files")
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        server.port = listener.getsockname()[1]
        server.address = f"http://127.0.0.1:{server.port}"
        server.files = folder / "files"
        server.visitors = server.config.app.visitors
        try:
            until = time.monotonic() + PATIENCE_SECONDS
            while not server.started:
                assert time.monotonic() < until and thread.is_alive()
                time.sleep(0.05)
            yield server
        finally:
            server.should_exit = True
            thread.join()
    # The end takes all files of users with it.
    assert not list((folder / "files" / "visitors").glob("*"))
