"""A page on which films can be tried: ``python tools/webdemo.py``."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import logging
import math
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transavs.tools.command_line import CommandParser, command, start_logging
from transavs.tools.model_options import add_model_options, check_model_options, load_predictor
from transavs.utils.signal_handlers import SignalHandlers

if TYPE_CHECKING:
    from transavs.tools.web_page.sessions import Sessions

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
# Open pages hold a connection each, which would keep the server from ending.
_PATIENCE_SECONDS = 2


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = CommandParser(
        prog="webdemo.py",
        description="Serves a page on which a film can be uploaded, what sounds in it is marked, "
        "and its sound can be exchanged. Without --config-file and --weights a small model is used "
        "that comes with the package; it knows few classes.",
    )
    add_model_options(parser)
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        metavar="ADDRESS",
        help="address to listen at (%(default)s: this machine alone; 0.0.0.0: everybody who can "
        "reach it, unencrypted and without a password)",
    )
    parser.add_argument(
        "--port", type=int, default=7860, metavar="NUMBER", help="0 takes a free one (%(default)s)"
    )
    parser.add_argument(
        "--max-megabytes",
        type=float,
        default=200.0,
        metavar="NUMBER",
        help="of a file (%(default)g)",
    )
    parser.add_argument(
        "--max-seconds", type=float, default=60.0, metavar="NUMBER", help="of a film (%(default)g)"
    )
    parser.add_argument(
        "--longest-side",
        type=int,
        default=640,
        metavar="PIXELS",
        help="larger films are scaled down to it (%(default)s)",
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=2,
        metavar="NUMBER",
        help="films that are marked at the same time; others wait (%(default)s)",
    )
    parser.add_argument(
        "--keep-minutes",
        type=float,
        default=60.0,
        metavar="NUMBER",
        help="files of an idle browser are deleted after so long (%(default)g); those of a closed "
        "page after one minute, all of them at the end",
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Serves until Ctrl-C; returns the exit code (0, or 2 for a mistake)."""
    args = build_parser().parse_args(argv)
    start_logging()
    _check(args)
    with _listen(args.host, args.port) as listener, _own_folder() as folder:
        server = build_server(args, Path(folder))
        port = listener.getsockname()[1]
        host = args.host if ":" not in args.host else f"[{args.host}]"
        logger.info("open http://%s:%d in a browser; Ctrl-C ends", host, port)
        server.run(listener)
    return 0


class Server:
    """The page behind its gate.

    Args:
        application: ASGI.
        sessions: of all browsers.
    """

    def __init__(self, application: Any, sessions: Sessions) -> None:
        import uvicorn

        class EndingServer(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                # Uvicorn would raise them again, amid its own end.
                yield

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                sessions.end_all()
                await super().shutdown(sockets)

        self.sessions = sessions
        self._server = EndingServer(
            uvicorn.Config(
                application,
                log_level="warning",
                timeout_graceful_shutdown=_PATIENCE_SECONDS,
                proxy_headers=False,
                server_header=False,
            )
        )

    def run(self, listener: socket.socket) -> None:
        """Serves at a bound socket until :meth:`stop`; in the main thread also until Ctrl-C."""
        stop = threading.Event()
        threading.Thread(
            target=self.sessions.keep_sweeping, args=(stop,), daemon=True, name="sweeper"
        ).start()
        with SignalHandlers(lambda *_: self.stop(), (signal.SIGINT, signal.SIGTERM)):
            try:
                self._server.run(sockets=[listener])
            finally:
                stop.set()

    @property
    def started(self) -> bool:
        """Whether it answers."""
        return bool(self._server.started)

    def stop(self) -> None:
        """Ends :meth:`run` within some seconds; called again, at once."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True


def build_server(args: argparse.Namespace, folder: Path) -> Server:
    """Loads the model, draws the examples and returns the server.

    Args:
        args: see :func:`build_parser`.
        folder: for everything that is written.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    gradio = _gradio()
    from fastapi import FastAPI

    from transavs.tools.web_page.examples import find_examples
    from transavs.tools.web_page.gate import Gate
    from transavs.tools.web_page.markup import CSS, HEAD
    from transavs.tools.web_page.page import Limits, Page
    from transavs.tools.web_page.sessions import Sessions

    predictor = load_predictor(args)
    sessions = Sessions(folder / "sessions", 60 * args.keep_minutes)
    limits = Limits(args.max_megabytes, args.max_seconds, args.longest_side, args.at_once)
    page = Page(predictor, sessions, find_examples(folder / "examples"), limits).build()
    page.queue(max_size=8 * args.at_once, api_open=False)
    most_bytes = int(args.max_megabytes * 1e6)
    application = gradio.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size=most_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        css=CSS,
        head=HEAD,
    )
    hosts = (*_LOOPBACK_NAMES, args.host) if _is_loopback(args.host) else None
    return Server(Gate(application, sessions, most_bytes, hosts), sessions)


def _check(args: argparse.Namespace) -> None:
    check_model_options(args)
    for name in ("max_megabytes", "max_seconds", "longest_side", "at_once", "keep_minutes"):
        if not 0 < getattr(args, name) < math.inf:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} must be above 0 and finite, got {getattr(args, name):g}")
    if not 0 <= args.port <= 65535:
        raise ValueError(f"--port must lie in 0 to 65535, got {args.port}")
    try:
        _gradio()

        import transavs.video  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("gradio", "av"):
            raise
        raise ValueError(
            f'the page needs {error.name}, which is not installed: pip install "transavs[web]"'
        ) from None


def _listen(host: str, port: int) -> socket.socket:
    """A socket at an address; an OSError that names it where that cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Two sockets may be bound to a port; the second that listens is refused.
        listener.listen()
    except OSError as error:
        listener.close()
        raise OSError(
            f"cannot listen at {host}, port {port} ({error.strerror}): choose another --port, or "
            "--host"
        ) from error
    return listener


def _own_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that only this user can read, and that goes away at the end."""
    return tempfile.TemporaryDirectory(prefix="transavs-web-", ignore_cleanup_errors=True)


def _gradio() -> Any:
    """Gradio, told before it is imported to call nobody."""
    settings = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SHARE": "False",
        "GRADIO_SSR_MODE": "False",
        "GRADIO_MCP_SERVER": "False",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    os.environ.update(settings)
    import gradio

    return gradio


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    raise SystemExit(main())
