"""The page: what is asked for, and what is shown."""

from __future__ import annotations

import html
import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from transavs.engine.predictor import OWN_SOUND, SILENCE, VideoPredictor
from transavs.tools.film_overlay import VIEWS, OverlayOptions
from transavs.tools.web_page.examples import Example
from transavs.tools.web_page.gate import session_key
from transavs.tools.web_page.marking import mark_film
from transavs.tools.web_page.markup import (
    DELETED,
    HINT,
    SHOWN_RESULTS,
    message,
    result,
    shown,
    without_paths,
)
from transavs.tools.web_page.sessions import Session, Sessions
from transavs.video import FrameFolder, open_film
from transavs.video.film import Film

logger = logging.getLogger(__name__)

MY_FILE = "a file of mine"
ITS_OWN, NOTHING = "the film's own", "silence"


@dataclass(frozen=True)
class Limits:
    """What the page takes.

    Attributes:
        megabytes: size of a file.
        seconds: duration of a film.
        longest_side: of the pictures; larger ones are scaled down.
        at_once: how many films are marked at the same time.
    """

    megabytes: float = 200.0
    seconds: float = 60.0
    longest_side: int = 640
    at_once: int = 2


class Page:
    """Builds the page and answers it.

    Args:
        predictor: the model.
        sessions: of all browsers.
        examples: to choose from.
        limits: what is taken.
    """

    def __init__(
        self,
        predictor: VideoPredictor,
        sessions: Sessions,
        examples: list[Example],
        limits: Limits,
    ) -> None:
        self.predictor, self.sessions, self.limits = predictor, sessions, limits
        self.examples = {each.title: each for each in examples}
        self._sounds = {f"of {title}": each for title, each in self.examples.items()}

    def build(self) -> gr.Blocks:
        """Returns the page."""
        titles = [*self.examples, MY_FILE]
        limits = self.limits
        with gr.Blocks(title="TransAVS: what sounds?", analytics_enabled=False) as page:
            gr.Markdown(f"# What sounds?\n{self._introduction()}")
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    clip = gr.Dropdown(titles, value=titles[0], label="Film", elem_id="film")
                    film_file = gr.File(
                        label=f"A film of mine, at most {limits.seconds:g} s and "
                        f"{limits.megabytes:g} MB",
                        elem_id="film-file",
                        height=130,
                    )
                    sounds = [ITS_OWN, NOTHING, *self._sounds, MY_FILE]
                    sound = gr.Dropdown(sounds, value=ITS_OWN, label="Sound", elem_id="sound")
                    sound_file = gr.File(
                        label="A sound of mine (or a film, for its sound)",
                        elem_id="sound-file",
                        height=130,
                    )
                    view = gr.Radio(list(VIEWS), value=VIEWS[0], label="View", elem_id="view")
                    own_rule = gr.Checkbox(
                        True, label="Mark by the model's own rule", elem_id="own-rule"
                    )
                    threshold = gr.Slider(
                        0.0,
                        0.95,
                        value=0.5,
                        step=0.05,
                        label="otherwise where the score is above",
                        elem_id="threshold",
                    )
                    start = gr.Button("Mark what sounds", variant="primary", elem_id="start")
                    delete = gr.Button("Delete my files", size="sm", elem_id="delete")
                with gr.Column(scale=3, min_width=400):
                    results = gr.HTML(HINT, elem_id="results", min_height=120)
            box: Any
            for box in (film_file, sound_file):
                # Gradio's own leaves an empty file behind for each question.
                box.preprocess = _path_of_file
            film_file.upload(lambda: MY_FILE, outputs=clip, show_progress="hidden")
            sound_file.upload(lambda: MY_FILE, outputs=sound, show_progress="hidden")
            start.click(
                self.answer,
                [clip, film_file, sound, sound_file, view, own_rule, threshold],
                results,
                concurrency_limit=limits.at_once,
                api_visibility="private",
            )
            delete.click(self.delete, outputs=[film_file, sound_file, clip, sound, results])
            page.load(self.open_page)
            page.unload(self.close_page)
        return page

    def _introduction(self) -> str:
        classes = self.predictor.known_classes
        knows = (
            f"The model was trained on **{', '.join(map(html.escape, classes))}**, and knows no "
            "other sounds."
            if classes
            else "Nothing tells which classes the model was trained on."
        )
        drawn = {name for each in self.examples.values() if each.drawn for name in each.names}
        if classes and drawn and drawn.isdisjoint(classes):
            knows += " The drawn films are strange to it: they show how the page works."
        return (
            "Pick a film or bring your own: what the model believes to sound is marked. Give the "
            "film another sound, or none, and see what changes. " + knows
        )

    def open_page(self, request: gr.Request) -> None:
        """Notes that a page is open: its files stay."""
        session = self._session(request)
        if session is not None:
            session.pages.add(str(request.session_hash))

    def close_page(self, request: gr.Request) -> None:
        """Lets the files of the last page go."""
        session = self._session(request)
        if session is not None:
            self.sessions.close_page(session, str(request.session_hash))

    def delete(self, request: gr.Request) -> tuple[Any, ...]:
        """Deletes the session's files and empties the page."""
        session = self._session(request)
        if session is not None:
            session.delete_files()
        first = next(iter(self.examples), MY_FILE)
        return None, None, first, ITS_OWN, DELETED

    def answer(
        self,
        clip: str,
        film_file: str | None,
        sound: str,
        sound_file: str | None,
        view: str,
        own_rule: bool,
        threshold: float,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio looks for this default)
    ) -> str:
        """Returns the newest results as HTML, or what was wrong above them."""
        session = self._session(request)
        if session is None:
            return message("This page needs its cookie: load it anew, with cookies allowed.")
        folder: Path | None = None
        try:
            film = self._film(session, clip, film_file)
            heard = self._sound(session, sound, sound_file)
            options = OverlayOptions(
                view=view,
                threshold=None if own_rule else float(threshold),
                end=self.limits.seconds,
            )
            seconds = min(film.duration or self.limits.seconds, self.limits.seconds)
            folder = session.new_result()
            marked = mark_film(
                self.predictor,
                film,
                heard,
                options,
                folder,
                lambda done: progress((int(done), math.ceil(seconds)), unit="s of film"),
                lambda: session.closed,
            )
        except (ValueError, OSError) as error:
            _remove(folder)
            if session.closed or (folder is not None and not session.folder.exists()):
                return _deleted(session)
            return message(without_paths(str(error), self._folders(session))) + shown(session)
        except Exception:
            _remove(folder)
            logger.exception("a film could not be marked")
            text = "Something went wrong that should not; the log of the server tells more."
            return message(text) + shown(session)
        if session.closed:
            return _deleted(session)
        name = clip if clip != MY_FILE else Path(str(film_file)).name
        if heard == OWN_SOUND:
            listened = "with its own sound" if film.has_sound else "which has no sound"
        elif heard == SILENCE:
            listened = "in silence"
        else:
            other = sound if sound != MY_FILE else Path(str(sound_file)).name
            listened = f"with the sound {other}"
        rule = "" if own_rule else f", threshold {threshold:g}"
        with session.lock:
            line = f"{name}, {listened}; view: {view}{rule}"
            session.shown = [result(folder.name, line, marked), *session.shown][:SHOWN_RESULTS]
        return shown(session)

    def _session(self, request: gr.Request) -> Session | None:
        return self.sessions.find(session_key(str(request.headers.get("cookie", ""))))

    def _film(self, session: Session, clip: str, file: str | None) -> Film:
        if clip != MY_FILE:
            example = self._chosen(self.examples, clip)
            return FrameFolder(example.frames, example.sound)
        path = _own_file(session, file, "film")
        film = open_film(path, longest_side=self.limits.longest_side)
        limit = self.limits.seconds
        # A hair's breadth: sound often ends a little behind the pictures.
        if film.duration is not None and film.duration > limit + 0.5:
            raise ValueError(
                f"{path.name} lasts {film.duration:.1f} s: this page takes up to {limit:g} s. Cut "
                "it, or use tools/demo.py, which takes any length"
            )
        return film

    def _sound(self, session: Session, sound: str, file: str | None) -> str | Path:
        if sound == ITS_OWN:
            return OWN_SOUND
        if sound == NOTHING:
            return SILENCE
        if sound == MY_FILE:
            return _own_file(session, file, "sound")
        return self._chosen(self._sounds, sound).sound

    def _folders(self, session: Session) -> set[str]:
        """Of the files that a message may name."""
        own = {str(each.sound.parent) for each in self.examples.values()}
        return {str(session.folder), *own, *(str(each.frames) for each in self.examples.values())}

    @staticmethod
    def _chosen(examples: dict[str, Example], title: str) -> Example:
        if title not in examples:
            raise ValueError(f"there is no {title}: load the page anew")
        return examples[title]


def _deleted(session: Session) -> str:
    if session.closed:
        # The work may have made folders anew.
        session.delete_files()
    return message("Your files were deleted before this was done.")


def _path_of_file(file: Any) -> str | None:
    """The path that Gradio's description of a file holds."""
    return None if file is None else str(file.path)


def _own_file(session: Session, file: str | None, what: str) -> Path:
    if not file:
        raise ValueError(f"choose a {what} of yours first")
    if not session.owns(file):
        raise ValueError(f"your {what} is not here any more: upload it anew")
    return Path(file)


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
