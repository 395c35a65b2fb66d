"""Sessions: one for each browser, with a folder that nobody else is shown."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

# Two results are shown, and one is in the making.
_KEPT_UPLOADS, _KEPT_RESULTS = 4, 3
# A page that is loaded anew closes first.
_AFTER_CLOSING_SECONDS = 60.0
_MOST_SESSIONS = 1000
RESULT_FILES = ("film.mp4", "timeline.png", "masks.zip", "masks.json")
_TOKEN = re.compile(r"[0-9a-f]{32}")


class Session:
    """What belongs to one browser.

    Attributes:
        key: the secret that the browser's cookie holds.
        folder: of its files.
        last_seen: by the clock of ``Sessions``, in seconds.
        pages: Gradio's names of the pages that are open.
        closed: its files are gone; work for it shall stop.
    """

    def __init__(self, folder: Path, now: float) -> None:
        self.key = secrets.token_urlsafe(24)
        self.folder = folder
        self.last_seen = now
        self.pages: set[str] = set()
        self.closed = False
        # HTML of the results on the page, newest first.
        self.shown: list[str] = []
        self.lock = threading.Lock()

    def new_upload(self) -> Path:
        """Returns a new folder for a file; the oldest of too many uploads are deleted.

        Raises:
            FileNotFoundError: the session has ended.
        """
        return self._new("uploads", _KEPT_UPLOADS)

    def new_result(self) -> Path:
        """Returns a new folder for a result; the oldest of too many are deleted."""
        return self._new("results", _KEPT_RESULTS)

    def owns(self, path: str | Path) -> bool:
        """Returns whether a path is a file that this browser uploaded."""
        return self.keeps(path) and Path(path).is_file()

    def keeps(self, path: str | Path) -> bool:
        """Returns whether a path lies where this browser's uploads do, still there or not."""
        try:
            found = Path(path).resolve()
        except (ValueError, OSError):
            # It holds a zero byte, or is endless.
            return False
        return (self.folder / "uploads").resolve() in found.parents

    def result_file(self, result: str, name: str) -> Path | None:
        """Returns a file of a result, or None if this session has no such."""
        if not _TOKEN.fullmatch(result) or name not in RESULT_FILES:
            return None
        path = self.folder / "results" / result / name
        return path if path.is_file() else None

    def delete_files(self) -> None:
        """Deletes all files; the session goes on."""
        with self.lock:
            self.shown = []
            shutil.rmtree(self.folder, ignore_errors=True)

    def _new(self, kind: str, kept: int) -> Path:
        with self.lock:
            if self.closed:
                raise FileNotFoundError("this page was left alone for too long: load it anew")
            parent = self.folder / kind
            parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            there = sorted(parent.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            for old in there[: max(0, len(there) - kept + 1)]:
                shutil.rmtree(old, ignore_errors=True)
            folder = parent / secrets.token_hex(16)
            folder.mkdir(mode=0o700)
            return folder


class Sessions:
    """All sessions. Those that were not seen for a while lose their files.

    Args:
        root: folder of all of them.
        keep_seconds: how long a session may be idle.
        clock: seconds, for tests.
    """

    def __init__(
        self, root: Path, keep_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.root = root
        self.keep_seconds = keep_seconds
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def kept_bytes(self) -> int:
        """Returns how much the files of all sessions take."""
        total = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                # It may be deleted meanwhile.
                with contextlib.suppress(OSError):
                    total += os.stat(os.path.join(folder, name)).st_size
        return total

    def find(self, key: str | None) -> Session | None:
        """Returns the session of a cookie, which counts as seen, or None."""
        with self._lock:
            session = self._sessions.get(key or "")
            if session is not None:
                session.last_seen = self._clock()
            return session

    def start(self) -> Session:
        """Returns a new session; of too many, the one that was idle longest ends."""
        with self._lock:
            if len(self._sessions) >= _MOST_SESSIONS:
                self._end(min(self._sessions.values(), key=lambda each: each.last_seen))
            session = Session(self.root / secrets.token_hex(16), self._clock())
            self._sessions[session.key] = session
            return session

    def close_page(self, session: Session, page: str) -> None:
        """Notes that a page is closed; the last one takes the files with it, a minute later."""
        session.pages.discard(page)
        if not session.pages:
            due = self._clock() - self.keep_seconds + _AFTER_CLOSING_SECONDS
            session.last_seen = min(session.last_seen, due)

    def sweep(self) -> int:
        """Ends the sessions that are due, and returns how many."""
        with self._lock:
            limit = self._clock() - self.keep_seconds
            due = [each for each in self._sessions.values() if each.last_seen <= limit]
            for session in due:
                self._end(session)
        return len(due)

    def end_all(self) -> None:
        """Ends all sessions: the work for them stops."""
        with self._lock:
            for session in list(self._sessions.values()):
                self._end(session)

    def keep_sweeping(self, stop: threading.Event, every_seconds: float = 20.0) -> None:
        """Sweeps until ``stop`` is set; for a thread."""
        while not stop.wait(every_seconds):
            ended = self.sweep()
            if ended:
                logger.info("deleted the files of %d idle sessions", ended)

    def _end(self, session: Session) -> None:
        session.closed = True
        del self._sessions[session.key]
        session.delete_files()
