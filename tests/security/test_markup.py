"""Names of strangers in pages of ours: letters, never markup."""

from html.parser import HTMLParser

import pytest

from transavs.tools import report_page

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
    scores = {EVIL: {"M_J": 0.5, "M_J_nonempty": 0.5, "M_F": 0.5}}
    check(report_page.page(EVIL, []))
    check(report_page.scores_section({"a": scores}, {"a": EVIL}))
    check(report_page.scores_section({}, {"a": EVIL}))
    tags = check(report_page.figure(EVIL, EVIL))
    assert [attributes["src"] for tag, attributes in tags if tag == "img"] == [EVIL]


def test_the_page():
    pytest.importorskip("gradio")
    from transavs.apps.web.page import message, result
    from transavs.tools.film_overlay import OverlaySummary

    check(message(EVIL))
    fields = dict.fromkeys(OverlaySummary.__dataclass_fields__, 0)
    check(result("0" * 32, EVIL, OverlaySummary(**fields), 0.0))
