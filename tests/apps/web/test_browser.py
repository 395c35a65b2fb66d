"""The page as it is served, in a real browser and without one."""

import json
import re
import threading
import time
import zipfile
from contextlib import ExitStack, contextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import films
import listening_model
import numpy as np
import pytest
from browsers import asked_hosts, needs_chromium, open_browser
from films import write_film

SIDE = listening_model.SIZE[0]
PATIENCE_SECONDS = 60
COOKIE = "transavs_session"


def black(_):
    return np.zeros((SIDE, SIDE, 3), np.uint8)


def loud_then_quiet(seconds):
    return np.where(seconds < 1, films.tone(440)(seconds), 0.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("gradio")
    from web_servers import serve_page

    with serve_page(tmp_path_factory.mktemp("web"), max_seconds=4) as server:
        yield server


@contextmanager
def open_page(server, folder):
    with open_browser(folder) as driver:
        driver.get_log("performance")
        driver.get(f"{server.address}/")
        wait(lambda: find(driver, "#start"))
        yield driver


def wait(condition):
    """Returns what a condition becomes."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < until, "nothing came"
        time.sleep(0.1)
    return found


def find(driver, selector):
    return driver.find_elements("css selector", selector)


def upload(driver, box, path):
    """Puts a file into a box of the page."""
    if clear := find(driver, f'#{box} button[aria-label="Clear"]'):
        clear[0].click()
    wait(lambda: find(driver, f"#{box} input[type=file]"))[0].send_keys(str(path))
    wait(lambda: path.stem in driver.find_element("id", box).text)
    wait(lambda: chosen(driver, box.removesuffix("-file")) == "a file of mine")


def chosen(driver, box):
    return driver.find_element("css selector", f"#{box} input").get_attribute("value")


def choose(driver, box, text):
    """Chooses from a list, which opens when it is clicked and closes when the page moves on."""
    from selenium.common.exceptions import WebDriverException

    entry = driver.find_element("css selector", f"#{box} input")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", entry)

    def is_chosen():
        try:
            if chosen(driver, box) != text:
                entry.click()
                find(driver, f'[role=option][aria-label="{text}"]')[0].click()
        except (IndexError, WebDriverException):
            return False
        return chosen(driver, box) == text

    wait(is_chosen)


def shown(driver):
    """What the newest result or message says."""
    found = find(driver, "#results [role=alert], #results .transavs-result")
    return found[0].text if found else ""


def start(driver):
    driver.execute_script("document.querySelector('#start').scrollIntoView({block: 'center'})")
    driver.find_element("id", "start").click()


def mark(driver):
    """Presses the button and returns what is shown then."""
    # A new answer takes the place of what has this mark.
    driver.execute_script(
        "document.querySelectorAll('#results p').forEach((each) => each.dataset.former = '1')"
    )
    start(driver)
    wait(lambda: not find(driver, "#results [data-former]") and shown(driver))
    return shown(driver)


def fetch(driver, address):
    """Status and bytes that an address has for a browser, by its cookies."""
    cookies = "; ".join(f"{each['name']}={each['value']}" for each in driver.get_cookies())
    try:
        with urlopen(Request(address, headers={"Cookie": cookies})) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def upload_and_mark(browser, tmp_path):
    path = write_film(tmp_path / "barks.mp4", 2.0, picture=black, voices=(loud_then_quiet,))
    upload(browser, "video-file", path)
    text = mark(browser)
    assert "barks.mp4; audio: the video's own; view: mask" in text
    assert "2.0 s, 2 frames shown to the model: 50% of them have a mask" in text
    # The video plays, and the line in the timeline goes with it.
    film = browser.find_element("css selector", "#results video")
    wait(lambda: browser.execute_script("return arguments[0].readyState", film) >= 2)
    assert browser.execute_script("return arguments[0].duration", film) == pytest.approx(
        2.0, abs=0.1
    )
    browser.execute_script("arguments[0].currentTime = 1.5", film)
    line = browser.find_element("css selector", "#results .transavs-now")
    wait(lambda: line.get_attribute("style") == "left: 75%;")
    timeline = browser.find_element("css selector", ".transavs-timeline img")
    wait(lambda: browser.execute_script("return arguments[0].naturalWidth", timeline) == 960)


def download_masks(browser):
    links = find(browser, "#results a[download]")
    assert [link.get_attribute("download") for link in links] == ["masks.zip", "masks.json"]
    for link in links:
        link.click()
    folder = browser.downloads
    wait(lambda: {file.name for file in folder.iterdir()} == {"masks.zip", "masks.json"})
    assert len(zipfile.ZipFile(folder / "masks.zip").namelist()) == 2
    (entry,) = json.loads((folder / "masks.json").read_text())
    assert entry["seconds"] == 0.5


def take_silence(browser):
    choose(browser, "audio", "silence")
    text = mark(browser)
    assert "barks.mp4; audio: silence" in text and " 0% of them have a mask" in text
    # What was there before stays below, to compare.
    results = find(browser, "#results .transavs-result")
    assert len(results) == 2 and "the video's own" in results[1].text


def lend_audio(browser, tmp_path):
    lender = write_film(tmp_path / "lender.mp4", 2.0, voices=(films.tone(300),))
    upload(browser, "audio-file", lender)
    text = mark(browser)
    assert "audio: lender.mp4" in text and "100% of them have a mask" in text


def upload_words(browser, tmp_path):
    words = tmp_path / "words.mp4"
    words.write_text("These are words.\n" * 100)
    upload(browser, "video-file", words)
    text = mark(browser)
    assert "words.mp4" in text and "as a film" in text
    assert len(find(browser, "#results [role=alert]")) == 1
    assert "/" not in re.sub(r"\w+/\w+\.py", "", text), "names a folder of the server"


def upload_a_long_film(browser, tmp_path):
    path = write_film(tmp_path / "long.mp4", 5.0, picture=black, voices=())
    upload(browser, "video-file", path)
    assert "long.mp4 lasts 5.0 s: this page takes up to 4 s" in mark(browser)


def upload_a_large_file(browser, tmp_path):
    path = tmp_path / "large.mp4"
    path.write_bytes(bytes(1_500_000))
    if clear := find(browser, '#video-file button[aria-label="Clear"]'):
        clear[0].click()
    wait(lambda: find(browser, "#video-file input[type=file]"))[0].send_keys(str(path))
    wait(lambda: "maximum allowed size" in browser.find_element("tag name", "body").text)


def nobody_else_was_asked(browser):
    assert asked_hosts(browser) == {"127.0.0.1"}
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [each["message"] for each in severe] == []


class Stranger:
    """Whoever asks the server without its page."""

    def __init__(self, server):
        self.address = server.address
        with urlopen(f"{self.address}/") as answer:
            self.headers = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
        with urlopen(f"{self.address}/config") as answer:
            calls = json.load(answer)["dependencies"]
        (self.function,) = (each["id"] for each in calls if len(each["inputs"]) == 8)

    def ask(self, path, body=None, **headers):
        request = Request(f"{self.address}/{path}", body, self.headers | headers)
        try:
            with urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def upload(self, content):
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        return self.ask("gradio_api/upload", part + content + b"\r\n--x--\r\n", **form)

    def mark(self, video, before=None):
        """Status of the question, and what is told of it in the end."""
        file = {"path": video, "meta": {"_type": "gradio.FileData"}}
        wish = ["a file of mine", file, "the video's own", None, "mask", True, 0.5, before]
        body = {"data": wish, "fn_index": self.function, "session_hash": "abcdef"}
        kind = {"Content-Type": "application/json"}
        status, text = self.ask("gradio_api/queue/join", json.dumps(body).encode(), **kind)
        if status != 200:
            return status, text
        return status, self.ask("gradio_api/queue/data?session_hash=abcdef")[1]


@pytest.mark.slow
def test_files_of_others_are_not_copied(server, tmp_path):
    secret = write_film(tmp_path / "secret.mp4", 1.0)
    anna, bert = Stranger(server), Stranger(server)
    status, text = anna.upload(secret.read_bytes())
    (path,) = json.loads(text)
    assert status == 200 and "transavs-result" in anna.mark(path)[1]
    for foreign in (str(secret), "", "http://127.0.0.1/video.mp4", path):
        status, text = bert.mark(foreign)
        assert status == 403 and "this file is not here" in text
    # Nor is what was shown before taken from whoever asks.
    assert "my words" not in anna.mark(path, {str(tmp_path): "my words"})[1]
    for route in (f"gradio_api/file={path}", f"gradio_api/file/{path}", f"file={path}"):
        assert anna.ask(route)[0] == bert.ask(route)[0] == 404
    # Gradio's File would leave an empty file for each question.
    assert {each.name for each in server.files.iterdir()} <= {"examples", "visitors"}


@pytest.mark.slow
def test_files_go_when_their_page_is_closed(server):
    stranger = Stranger(server)
    folder = server.visitors.find({COOKIE: stranger.headers["Cookie"].partition("=")[2]})
    request = Request(f"{server.address}/gradio_api/heartbeat/abc", headers=stranger.headers)
    with urlopen(request) as heartbeat:
        heartbeat.read(5)
        seen = folder.stat().st_mtime
    wait(lambda: folder.stat().st_mtime < seen - 3000)


@needs_chromium
@pytest.mark.slow
def test_one_user(server, tmp_path):
    with open_page(server, tmp_path / "browser") as browser:
        upload_and_mark(browser, tmp_path)
        download_masks(browser)
        take_silence(browser)
        lend_audio(browser, tmp_path)
        upload_words(browser, tmp_path)
        upload_a_long_film(browser, tmp_path)
        nobody_else_was_asked(browser)
        upload_a_large_file(browser, tmp_path)


@needs_chromium
@pytest.mark.slow
def test_two_users_at_once(server, tmp_path, monkeypatch):
    from transavs.apps.web import page

    meeting = threading.Barrier(2, timeout=PATIENCE_SECONDS)
    original = page.mark_video

    def meet_and_mark(*arguments):
        meeting.wait()
        return original(*arguments)

    monkeypatch.setattr(page, "mark_video", meet_and_mark)
    with ExitStack() as stack:
        anna, bert = (
            stack.enter_context(open_page(server, tmp_path / folder)) for folder in ("a", "b")
        )
        for browser, name, seconds in ((anna, "anna", 2.0), (bert, "bert", 3.0)):
            # One name, two films.
            (tmp_path / name).mkdir()
            path = tmp_path / name / "mine.mp4"
            write_film(path, seconds, picture=black, voices=(films.tone(440),))
            upload(browser, "video-file", path)
            choose(browser, "audio", "the video's own")
        for browser in (anna, bert):
            start(browser)
        for browser, seconds in ((anna, "2.0"), (bert, "3.0")):
            wait(
                lambda b=browser, s=seconds: f"{s} s, {s[0]} frames shown to the model" in shown(b)
            )
        nobody_else_was_asked(anna)
        nobody_else_was_asked(bert)
        # Neither can have what belongs to the other.
        film = find(anna, "#results video")[0].get_attribute("src")
        status, content = fetch(anna, film)
        assert status == 200 and b"ftyp" in content[:12]
        status, content = fetch(bert, film)
        assert status == 404 and b"no such file" in content
