"""The page: what is asked for, what is done then, and the HTML that shows it."""

from __future__ import annotations

import html
import logging
import math
import re
import shutil
from pathlib import Path
from typing import Any

import gradio as gr

from transavs.apps.web.examples import Example
from transavs.apps.web.guard import Visitors
from transavs.apps.web.marking import mark_video
from transavs.engine.predictor import OWN_SOUND, SILENCE, VideoPredictor
from transavs.tools.film_overlay import VIEWS, OverlayOptions, OverlaySummary
from transavs.video import FrameFolder, open_film
from transavs.video.film import Film

logger = logging.getLogger(__name__)

MY_FILE = "a file of mine"
ITS_OWN, NOTHING = "the video's own", "silence"
CSS = """
.transavs-result {border: 1px solid #8886; border-radius: 8px; padding: 10px; margin-bottom: 14px}
.transavs-result video {width: 100%; max-height: 340px; background: #101014}
.transavs-timeline {position: relative; margin-top: 8px}
.transavs-timeline img {width: 100%; display: block}
.transavs-now {position: absolute; top: 0; bottom: 0; left: 0; width: 2px; background: #fff}
.transavs-message {border-left: 4px solid #c33; padding: 8px 12px; background: #c332}
"""
# The line in the timeline follows the video. Events of media do not bubble: they are caught.
HEAD = """
<script>
for (const kind of ["timeupdate", "seeked", "loadedmetadata"]) {
  document.addEventListener(kind, (event) => {
    const result = event.target.closest && event.target.closest(".transavs-result");
    const line = result && result.querySelector(".transavs-now");
    if (line) {
      const share = event.target.currentTime / result.dataset.seconds;
      line.style.left = Math.min(100, 100 * share) + "%";
    }
  }, true);
}
</script>
"""
# Filled with escaped text, see `result`.
_RESULT = """
<div class="transavs-result" data-seconds="{seconds:.4f}">
<p><b>{line}</b></p>
<video controls preload="metadata" src="/results/{folder}/video.mp4"></video>
<div class="transavs-timeline"><img src="/results/{folder}/timeline.png"
alt="marked frames, log-mel spectrogram and confidence over the seconds of the video">
<div class="transavs-now"></div></div>
<p>Above one axis: the frames, the log-mel spectrogram of what the model hears, its confidence that
something sounds (0 to 1).</p>
<p>{seconds:.1f} s, {count} frames shown to the model: {marked:.0%} of them have a mask; on average
{area:.1%} of the frame is marked.</p>
<p>Masks: <a href="/results/{folder}/masks.zip" download="masks.zip">PNGs (zip)</a>,
<a href="/results/{folder}/masks.json" download="masks.json">COCO run lengths (JSON)</a></p>
</div>
"""


class Page:
    """Builds the page and answers it.

    Args:
        predictor: the model.
        visitors: all visitors, with their files.
        examples: clips to choose from, at least one.
        max_seconds: the longest video that is taken.
        longest_side: larger frames are scaled down to it, in pixels.
    """

    def __init__(
        self,
        predictor: VideoPredictor,
        visitors: Visitors,
        examples: list[Example],
        max_seconds: float = 60.0,
        longest_side: int = 640,
    ) -> None:
        self.predictor, self.visitors = predictor, visitors
        self.examples = {each.title: each for each in examples}
        self.max_seconds, self.longest_side = max_seconds, longest_side

    def build(self, at_once: int) -> gr.Blocks:
        """Returns the page, which marks so many videos at the same time; others wait."""
        classes = ", ".join(map(html.escape, self.predictor.known_classes))
        known = "Nothing tells which classes the model was trained on."
        if classes:
            known = f"The model was trained on **{classes}**, and knows no other sounds."
        clips = [*self.examples, MY_FILE]
        audios = [ITS_OWN, NOTHING, *(f"of {title}" for title in self.examples), MY_FILE]
        mine = f"at most {self.max_seconds:g} s and {self.visitors.most_bytes / 1e6:g} MB"
        with gr.Blocks(title="TransAVS: what sounds?", analytics_enabled=False) as page:
            gr.Markdown(
                "# What sounds?\nPick a video or bring your own: what the model believes to sound "
                f"is marked. Give the video other audio, or none, and see what changes. {known}"
            )
            # The HTML of the newest two results, by their folders.
            before = gr.State({}, time_to_live=self.visitors.keep_seconds)
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    clip = gr.Dropdown(clips, value=clips[0], label="Video", elem_id="video")
                    video_file = gr.File(
                        label=f"A video of mine, {mine}", elem_id="video-file", height=130
                    )
                    audio = gr.Dropdown(audios, value=ITS_OWN, label="Audio", elem_id="audio")
                    audio_file = gr.File(
                        label="Audio of mine (or a video)", elem_id="audio-file", height=130
                    )
                    view = gr.Radio(list(VIEWS), value=VIEWS[0], label="View", elem_id="view")
                    own_rule = gr.Checkbox(True, label="Mark by the model's own rule")
                    threshold = gr.Slider(
                        0.0, 0.95, value=0.5, step=0.05, label="otherwise where the score is above"
                    )
                    start = gr.Button("Mark what sounds", variant="primary", elem_id="start")
                    delete = gr.Button("Delete my files", size="sm", elem_id="delete")
                with gr.Column(scale=3, min_width=400):
                    results = gr.HTML("The marked video will stand here.", elem_id="results")
            box: Any
            for box, choice in ((video_file, clip), (audio_file, audio)):
                # Gradio's own leaves an empty file behind for each question.
                box.preprocess = lambda file: None if file is None else str(file.path)
                box.upload(lambda: MY_FILE, outputs=choice, show_progress="hidden")
            asked = [clip, video_file, audio, audio_file, view, own_rule, threshold, before]
            start.click(self.answer, asked, [results, before], api_visibility="private")
            delete.click(
                self.delete, outputs=[video_file, audio_file, clip, audio, results, before]
            )
            page.load(self.open_page)
            page.unload(self.close_page)
        page.queue(max_size=8 * at_once, default_concurrency_limit=at_once, api_open=False)
        return page

    def open_page(self, request: gr.Request, opened: bool = True) -> None:
        """Notes that a page is open: its files stay."""
        visitor = self._visitor(request)
        if visitor is not None:
            self.visitors.note_page(visitor, str(request.session_hash), opened)

    def close_page(self, request: gr.Request) -> None:
        """Notes that a page is closed."""
        self.open_page(request, opened=False)

    def delete(self, request: gr.Request) -> tuple[Any, ...]:
        """Deletes the visitor's files and empties the page."""
        visitor = self._visitor(request)
        for folder in visitor.iterdir() if visitor is not None else ():
            shutil.rmtree(folder, ignore_errors=True)
        return None, None, next(iter(self.examples)), ITS_OWN, "Your files are deleted.", {}

    def answer(
        self,
        clip: str,
        video_file: str | None,
        audio: str,
        audio_file: str | None,
        view: str,
        own_rule: bool,
        threshold: float,
        before: dict[str, str],
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio looks for this default)
    ) -> tuple[str, dict[str, str]]:
        """Returns the newest results as HTML, below what was wrong, and again by their folders."""
        visitor = self._visitor(request)
        if visitor is None:
            return message("This page needs its cookie: load it anew, with cookies allowed."), {}
        folder, wrong = visitor, ""
        try:
            video = self._video(visitor, clip, video_file)
            heard = self._audio(visitor, audio, audio_file)
            rule = None if own_rule else float(threshold)
            options = OverlayOptions(view=view, threshold=rule, end=self.max_seconds)
            seconds = math.ceil(min(video.duration or math.inf, self.max_seconds))
            folder = self.visitors.new_folder(visitor, "results")
            summary, area = mark_video(
                self.predictor,
                video,
                heard,
                options,
                folder,
                lambda done: progress((int(done), seconds), unit="s of video"),
                lambda: not folder.is_dir(),
            )
            line = Path(str(video_file)).name if clip == MY_FILE else clip
            line += f"; audio: {Path(str(audio_file)).name if audio == MY_FILE else audio}"
            line += "" if video.has_sound or audio != ITS_OWN else " (it has none)"
            line += f"; view: {view}" + ("" if own_rule else f", threshold {threshold:g}")
            before = {str(folder): result(folder.name, line, summary, area), **before}
        except (ValueError, OSError) as error:
            wrong = re.sub(r"(?<!\w)(/[^/\s'\":]+)*/", "", str(error))  # folders of this machine
        except Exception:
            logger.exception("a video could not be marked")
            wrong = "Something went wrong that should not; the server's log tells more."
        if not folder.is_dir():
            wrong = "Your files were deleted before this was done."
        elif wrong and folder != visitor:
            shutil.rmtree(folder, ignore_errors=True)
        there = [(name, markup) for name, markup in before.items() if Path(name).is_dir()][:2]
        shown = "<p>Before:</p>".join(markup for _, markup in there)
        return (message(wrong) if wrong else "") + shown, dict(there)

    def _visitor(self, request: gr.Request) -> Path | None:
        return self.visitors.find(request.request.cookies if request.request else {})

    def _video(self, visitor: Path, clip: str, file: str | None) -> Film:
        if clip != MY_FILE:
            example = self._example(clip)
            return FrameFolder(example.frames, example.audio)
        path, limit = _own_file(visitor, file, "video"), self.max_seconds
        video = open_film(path, longest_side=self.longest_side)
        # A hair's breadth: audio often ends a little behind the frames.
        if video.duration is not None and video.duration > limit + 0.5:
            raise ValueError(
                f"{path.name} lasts {video.duration:.1f} s: this page takes up to {limit:g} s. Cut "
                "it, or use tools/demo.py, which takes any length"
            )
        return video

    def _audio(self, visitor: Path, audio: str, file: str | None) -> str | Path:
        if audio in (ITS_OWN, NOTHING):
            return OWN_SOUND if audio == ITS_OWN else SILENCE
        if audio == MY_FILE:
            return _own_file(visitor, file, "audio")
        return self._example(audio.removeprefix("of ")).audio

    def _example(self, title: str) -> Example:
        if title not in self.examples:
            raise ValueError(f"there is no {title}: load the page anew")
        return self.examples[title]


def _own_file(visitor: Path, file: str | None, what: str) -> Path:
    if not file:
        raise ValueError(f"choose a file with your {what} first")
    if not Visitors.owns(visitor, file) or not Path(file).is_file():
        raise ValueError(f"your {what} is not here any more: upload it anew")
    return Path(file)


def message(text: str) -> str:
    """Returns a line that says what was wrong."""
    return f'<p class="transavs-message" role="alert">{html.escape(text)}</p>'


def result(folder: str, line: str, summary: OverlaySummary, area: float) -> str:
    """Returns HTML of a result.

    Args:
        folder: name of its folder.
        line: what was marked how, as plain text.
        summary: what was written.
        area: mean share of a frame that is marked, in [0, 1].
    """
    return _RESULT.format(
        folder=folder,
        line=html.escape(line),
        seconds=summary.seconds,
        count=summary.moments,
        marked=summary.marked,
        area=area,
    )
