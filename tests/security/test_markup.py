"""Names of strangers in pages of ours: letters, never markup."""

from html.parser import HTMLParser

import numpy as np
import pytest

from transavs.apps.report.clip_analysis import ClipAnalysis, ObjectTrack, QuerySummary
from transavs.apps.report.page import ModelSection, ShownClip, render_page

EVIL = """</title><script>alert(1)</script><img src=x onerror="alert(2)">'"&"""


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def check(text):
    tags = Tags(text).found
    assert "script" not in [tag for tag, _ in tags]
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert "&lt;script&gt;" in text
    return tags


def test_the_payload_works():
    tags = [tag for tag, _ in Tags(EVIL).found]
    assert tags == ["script", "img"]


def test_reports():
    scores = {"M_J": 0.5, "M_J_nonempty": 0.5, "M_F": 0.5}
    results = {"a": {EVIL: scores}, "references": {"a": {EVIL: scores}}}
    track, query = ObjectTrack(EVIL, [True], [0.5]), QuerySummary(0, 0.5, True, EVIL)
    picture = np.zeros((2, 2, 3), np.uint8)
    analysis = ClipAnalysis(
        "shuffled", EVIL, EVIL, [[EVIL]], [0.5], [True], [0.5], [track], [[query]], picture
    )
    clip = ShownClip(EVIL, EVIL, [(analysis, EVIL, EVIL)])
    section = ModelSection(EVIL, 1, [(EVIL, EVIL)], [clip])
    tags = check(render_page(EVIL, results, {"a": EVIL, "no scores": EVIL}, [section]))
    sources = [attributes["src"] for tag, attributes in tags if tag in ("img", "audio")]
    assert sources == [EVIL] * 3
    # Its own elements alone: none came out of a text.
    count = len(tags)
    harmless = render_page("x", results, {"a": "x", "no scores": "x"}, [section])
    assert len(Tags(harmless).found) == count


def test_the_page():
    pytest.importorskip("gradio")
    from transavs.apps.web.page import message, result
    from transavs.tools.film_overlay import OverlaySummary

    check(message(EVIL))
    fields = dict.fromkeys(OverlaySummary.__dataclass_fields__, 0)
    check(result("0" * 32, EVIL, OverlaySummary(**fields), 0.0))
