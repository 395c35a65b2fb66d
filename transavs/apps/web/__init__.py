"""A page on which videos can be tried: ``python tools/webdemo.py``.

`page` is built with Gradio's own means: a queue, states that expire, the largest upload. `guard`
keeps visitors apart where these do not. `marking` makes what is shown, `examples` what can be
chosen.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import math
import os
import signal
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transavs.tools.command_line import CommandParser, command, start_logging
from transavs.tools.model_options import add_model_options, check_model_options, load_predictor

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger(__name__)

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
# Open pages hold a connection each, which would keep the server from ending.
_PATIENCE_SECONDS = 2
_NUMBERS: dict[str, tuple[type, float, str]] = {
    "port": (int, 7860, "0 takes a free one"),
    "max-megabytes": (float, 200.0, "of a file"),
    "max-seconds": (float, 60.0, "of a video"),
    "longest-side": (int, 640, "in pixels: larger videos are scaled down to it"),
    "at-once": (int, 2, "videos that are marked at the same time; others wait"),
    "keep-minutes": (
        float,
        60.0,
        "files of an idle browser are deleted after so long, those of a closed page after one "
        "minute, all of them at the end",
    ),
}
# Gradio reads these when it is imported; it shall call nobody.
_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = CommandParser(
        prog="webdemo.py",
        description="Serves a page on which a video can be uploaded, what sounds in it is marked, "
        "and its audio can be exchanged. Without --config-file and --weights a small model is used "
        "that comes with the package; it knows few classes.",
    )
    add_model_options(parser)
    add = parser.add_argument
    add("--host", default="127.0.0.1", metavar="ADDRESS",
        help="address to listen at (%(default)s: this machine alone; 0.0.0.0: everybody who can "
        "reach it, unencrypted and without a password)")  # fmt: skip
    for name, (kind, default, told) in _NUMBERS.items():
        told = f"{told} (default: %(default)g)"
        add(f"--{name}", type=kind, default=default, metavar="NUMBER", help=told)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Serves until Ctrl-C; returns the exit code (0, or 2 for a mistake)."""
    args = build_parser().parse_args(argv)
    start_logging()
    _check(args)
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    try:
        listener = socket.create_server((args.host, args.port), family=family)
    except OSError as error:
        raise ValueError(
            f"cannot listen at {args.host}, port {args.port} ({error.strerror}): choose another "
            "--port, or --host"
        ) from error
    own = tempfile.TemporaryDirectory(prefix="transavs-web-", ignore_cleanup_errors=True)
    with listener, own as folder:
        server = build_server(args, Path(folder))
        host = f"[{args.host}]" if ":" in args.host else args.host
        logger.info("open http://%s:%d in a browser; Ctrl-C ends", host, listener.getsockname()[1])
        # Uvicorn ends in an orderly way and then raises the signal again.
        former = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            logger.info("ended")
        finally:
            signal.signal(signal.SIGTERM, former)
    return 0


def build_server(args: argparse.Namespace, folder: Path) -> uvicorn.Server:
    """Loads the model, draws the examples and returns the server.

    Args:
        args: what :func:`build_parser` parsed.
        folder: where everything is written.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    gradio = _gradio()
    import uvicorn
    from fastapi import FastAPI
    from starlette.responses import Response
    from starlette.routing import BaseRoute, Route

    from transavs.apps.web.examples import find_examples
    from transavs.apps.web.guard import UPLOAD, Guard, Visitors
    from transavs.apps.web.page import CSS, HEAD, Page

    def no_progress(request: Any) -> Response:
        # What Gradio's front end expects where nothing more will come.
        return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    most_bytes = int(args.max_megabytes * 1e6)
    visitors = Visitors(folder / "visitors", 60 * args.keep_minutes, most_bytes)
    routes: list[BaseRoute] = [
        Route(UPLOAD, visitors.upload, methods=["POST"]),
        Route(f"{UPLOAD}_progress", no_progress),
        Route("/results/{result}/{name}", visitors.result),
    ]
    examples = find_examples(folder / "examples")
    page = Page(load_predictor(args), visitors, examples, args.max_seconds, args.longest_side)
    application = gradio.mount_gradio_app(
        FastAPI(routes=routes, lifespan=visitors.lifespan),
        page.build(args.at_once),
        path="/",
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size=most_bytes,
        ssr_mode=False,
        css=CSS,
        head=HEAD,
    )
    # At this machine alone, nobody asks by another name.
    address = socket.getaddrinfo(args.host, None)[0][4][0]
    local = ipaddress.ip_address(address).is_loopback
    config = uvicorn.Config(
        Guard(application, visitors, (*_LOOPBACK_NAMES, args.host) if local else None),
        log_level="warning",
        timeout_graceful_shutdown=_PATIENCE_SECONDS,
        proxy_headers=False,
        server_header=False,
    )
    return uvicorn.Server(config)


def _check(args: argparse.Namespace) -> None:
    check_model_options(args)
    for name in _NUMBERS.keys() - {"port"}:
        value = getattr(args, name.replace("-", "_"))
        if not 0 < value < math.inf:
            raise ValueError(f"--{name} must be above 0 and finite, got {value:g}")
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


def _gradio() -> Any:
    os.environ.update(_SETTINGS)
    import gradio

    return gradio
