"""What the page is written in: HTML of results and messages, style, and the line that moves."""

from __future__ import annotations

import html
import re

from transavs.tools.web_page.marking import MarkedFilm
from transavs.tools.web_page.sessions import Session

# So many results stand on the page: the newest, and the one before to compare.
SHOWN_RESULTS = 2
HINT = "<p>The marked film will stand here, above its sound.</p>"
DELETED = "<p>Your films, sounds and results are deleted.</p>"
CSS = """
.transavs-result {border: 1px solid #8886; border-radius: 8px; padding: 10px; margin-bottom: 14px}
.transavs-result video {width: 100%; max-height: 340px; background: #101014}
.transavs-timeline {position: relative; margin-top: 8px}
.transavs-timeline img {width: 100%; display: block}
.transavs-now {position: absolute; top: 0; bottom: 0; left: 0; width: 2px; background: #fff}
.transavs-message {border-left: 4px solid #c33; padding: 8px 12px; background: #c332}
"""
# The line in the timeline follows the film. Events of media do not bubble: they are caught.
HEAD = """
<script>
for (const kind of ["timeupdate", "seeked", "loadedmetadata"]) {
  document.addEventListener(kind, (event) => {
    const result = event.target.closest && event.target.closest(".transavs-result");
    const line = result && result.querySelector(".transavs-now");
    const seconds = Number(result && result.dataset.seconds);
    if (line && seconds > 0) {
      line.style.left = Math.min(100, 100 * event.target.currentTime / seconds) + "%";
    }
  }, true);
}
</script>
"""


def message(text: str) -> str:
    """Returns a line that says what was wrong."""
    return f'<p class="transavs-message" role="alert">{html.escape(text)}</p>'


def shown(session: Session) -> str:
    """Returns a session's results, the newest first."""
    if not session.shown:
        return ""
    newest, *before = session.shown
    if before:
        before.insert(0, "<p>Before:</p>")
    return newest + "".join(before)


def result(name: str, line: str, marked: MarkedFilm) -> str:
    """Returns a result.

    Args:
        name: of its folder.
        line: what was marked how, as plain text.
        marked: the numbers.
    """
    summary = marked.summary
    address = f"/results/{name}"
    return (
        f'<div class="transavs-result" data-seconds="{summary.seconds:.4f}">'
        f"<p><b>{html.escape(line)}</b></p>"
        f'<video controls preload="metadata" src="{address}/film.mp4"></video>'
        f'<div class="transavs-timeline"><img src="{address}/timeline.png" '
        'alt="marked pictures, log-mel spectrogram and confidence over the seconds of the film">'
        '<div class="transavs-now"></div></div>'
        "<p>Above one axis: the pictures, the log-mel spectrogram of what the model hears, its "
        "confidence that something sounds (0 to 1).</p>"
        f'<p class="transavs-numbers">{summary.seconds:.1f} s, asked about {summary.moments} '
        f"moments: {100 * summary.marked:.0f} % of them have a mask; on average "
        f"{100 * marked.area:.1f} % of the picture is marked.</p>"
        f'<p>Masks: <a href="{address}/masks.zip" download="masks.zip">PNGs (zip)</a>, '
        f'<a href="{address}/masks.json" download="masks.json">COCO run lengths (JSON)</a></p>'
        "</div>"
    )


def without_paths(text: str, folders: set[str]) -> str:
    """Returns a message with the names of files, but without the server's folders."""
    for folder in sorted(folders, key=len, reverse=True):
        text = re.sub(re.escape(folder) + r"/?((?:[^/\s'\":]+/)*)", "", text)
    return text
