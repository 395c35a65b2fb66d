"""The demo's page: HTML from results and stories. Plain files, nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from transavs.evaluation.results_file import reference_models
from transavs.tools.clip_story import MARKED_SHARE, Hearing, ObjectTrack, QueryNote
from transavs.visualization import PREDICTION_COLOR, TRUTH_COLOR

CONDITION_TITLES = {
    "original": "own sound",
    "shuffled": "another clip's sound",
    "silence": "silence",
    "noise": "white noise",
    "offscreen": "a sound of something that is not there",
}
_REFERENCE_TITLES = {
    "every_object": "no model: mark every object",
    "nothing": "no model: mark nothing",
}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
  max-width: 1180px; padding: 0 16px 64px; }
h1 { font-size: 1.7em; line-height: 1.25; } h2 { margin-top: 2.2em; border-top: 2px solid #ddd;
  padding-top: .8em; } h3 { margin: 2.2em 0 .2em; } h4 { margin: 1.4em 0 .3em; }
p, dl, ul { max-width: 46em; } dt { font-weight: 600; } dd { margin: 0 0 .5em 1.2em; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .6em 0; font-size: .92em; }
th, td { padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: right;
  white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
tr.reference td { color: #666; } tr.first td { padding-top: 1em; font-weight: 600; }
td.right { background: #dff3e2; } td.wrong { background: #fbdcd8; } td.hidden { color: #888; }
.silent { color: #999; } small, .note { color: #666; font-weight: 400; font-size: .9em; }
img { max-width: 100%; height: auto; display: block; } .clip img { width: 100%; min-width: 640px; }
audio { display: block; width: 100%; max-width: 26em; height: 36px; margin: .5em 0; }
/* Columns stand under those of the picture: a label of 11 %, then the seconds. */
table.seconds { width: 100%; min-width: 640px; table-layout: fixed; }
.seconds th, .seconds td { text-align: center; white-space: normal; padding: .2em; }
.seconds th:first-child, .seconds td:first-child { width: 11%; text-align: right;
  padding-right: .7em; overflow-wrap: anywhere; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .15em; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Returns a whole HTML document around its parts."""
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def introduction() -> str:
    """What the reader sees, and how to read it."""
    return f"""
<p>TransAVS looks at a short clip, one frame a second, listens to its sound, and marks the pixels
of whatever <em>makes the sound</em>. An object that is merely visible must stay unmarked. In the
demo clips, photographs of animals and instruments lie on photographs of landscapes, and recordings
are mixed for some of them, so it is known exactly what sounds when.</p>
<p>In the pictures, {_swatch(TRUTH_COLOR)} is the ground truth (what really sounds) and
{_swatch(PREDICTION_COLOR)} is what the model marked. The row <em>score</em> shows how sure it is of
each pixel, from black (0) to light yellow (1). The last row, <em>log-mel</em>, is the sound as the
model gets it: time from left to right, pitch from bottom to top, loud is bright; each piece stands
under the frame of its second. Click a picture for its full size.</p>
"""


def scores_section(results: Mapping[str, Any], datasets: Mapping[str, str]) -> str:
    """The table of results, what its columns mean, and what it says in sentences.

    Args:
        results: content of the file that ``eval_robustness`` writes.
        datasets: name -> title of the data sets to show.
    """
    references = results.get("references", {})
    rows, sentences = [], []
    for name, title in datasets.items():
        scores = results.get(name, {})
        if not scores:
            sentences.append(f"No scores of {escape(title)} in the results file.")
            continue
        rows.append(f"<tr class=first><td colspan=6>{escape(title)}</td></tr>\n")
        for condition, values in scores.items():
            cells = _score_cells(CONDITION_TITLES.get(condition, condition), values)
            rows.append(f"<tr>{_cells(cells)}</tr>\n")
        for other, values in reference_models(results, name).items():
            cells = _score_cells(f"another model: {other}", values)
            rows.append(f"<tr class=reference>{_cells(cells)}</tr>\n")
        for key, words in _REFERENCE_TITLES.items():
            if key in references.get(name, {}):
                values = references[name]
                cells = [words, number(values.get(f"{key}_nonempty")), number(values[key])]
                rows.append(f"<tr class=reference>{_cells([*cells, '', '', ''])}</tr>\n")
        robustness = results.get("robustness", {}).get(name, {})
        sentences.append(_verdict(title, scores, references.get(name, {}), robustness))
    heads = ("the sound", "J where it sounds", "M_J", "M_F", "false pixels", "false frames")
    heading = "".join(f"<th>{escape(head)}</th>" for head in heads)
    return (
        '<h2>Scores on clips never seen in training</h2>\n<div class="wide"><table>'
        f"<tr>{heading}</tr>\n{''.join(rows)}</table></div>\n"
        f"<ul>{''.join(f'<li>{sentence}</li>' for sentence in sentences)}</ul>\n"
        f"{_COLUMN_MEANINGS}"
    )


_COLUMN_MEANINGS = """
<p class=note>All in percent. With its own sound, more is better in the first three columns.</p>
<dl>
<dt>own sound / another clip's sound / silence ...</dt><dd>The same frames, heard with different
sounds, and always compared with what sounds in the <em>original</em>. A model that listens does
well only with the first.</dd>
<dt>J where it sounds</dt><dd>Jaccard index: the overlap of marked and true pixels, divided by their
union, averaged over the frames in which something sounds.</dd>
<dt>M_J</dt><dd>The same over all frames, as the AVSBench benchmark does it: a frame without sound
counts by its share of pixels that were rightly left unmarked.</dd>
<dt>M_F</dt><dd>F-measure of the scores, which weighs precision above recall, at the best threshold
for every few clips (AVSBench's protocol); how many they were stands in brackets, and numbers of
different brackets do not compare.</dd>
<dt>false pixels, false frames</dt><dd>Share of all pixels that were marked although they do not
sound, and share of frames in which more than half a percent of the pixels are such.</dd>
<dt>no model</dt><dd>What one would score without listening at all, by marking every visible object
or nothing.</dd>
<dt>another model</dt><dd>With the clips' own sound, for comparison; it may be one that hears
nothing.</dd>
<dt>G-mIoU</dt><dd>The number of AVSBench-Robust: high if the true sound is segmented well and the
false ones (silence, noise, what is not there) do not bring up the same masks. Over the frames in
which something sounds; published ones are over all frames.</dd>
</dl>
"""


def _score_cells(title: str, values: Mapping[str, Any]) -> list[str]:
    cells = [number(values.get(key)) for key in ("M_J_nonempty", "M_J", "M_F")]
    if values.get("M_F_group") is not None:
        cells[-1] += f" ({number(values['M_F_group'], digits=0)})"
    cells.append(number(values.get("FPR"), 100, 2))
    return [title, *cells, number(values.get("frames_with_false_pixels"))]


def _verdict(
    title: str,
    scores: Mapping[str, Any],
    references: Mapping[str, Any],
    robustness: Mapping[str, Any],
) -> str:
    own = scores.get("original", {}).get("M_J_nonempty")
    text = f"{escape(title)}: with its own sound J = {number(own)}"
    blind = references.get("every_object_nonempty")
    if blind is not None:
        text += f", where marking every object would give {number(blind)}"
    other = scores.get("shuffled", {}).get("M_J_nonempty")
    if other is not None:
        text += f"; with another clip's sound J = {number(other)}"
    false_frames = scores.get("silence", {}).get("frames_with_false_pixels")
    if false_frames is not None:
        text += f"; in silence, {number(false_frames)} % of the frames show false pixels"
    if robustness:
        text += f"; G-mIoU = {number(robustness.get('G_mIoU'))}"
        if "G_mIoU_all_frames" in robustness:
            text += f" (over all frames {number(robustness['G_mIoU_all_frames'])})"
    return text + "."


def clip_heading(clip_id: str, why: str, clips: int, hearing: Hearing) -> str:
    """Opens the section of one clip."""
    reason = f"{why} of {clips} clips" if why.startswith("the ") else why
    score = f"mean Jaccard index where it sounds {number(hearing.mean_jaccard)} %"
    return f"<h3>{escape(clip_id)} <small>{escape(reason)}; {score}</small></h3>\n"


def hearing_section(hearing: Hearing, picture: str, audio: str | None) -> str:
    """A clip with one sound: player, picture and the tables below it.

    Args:
        hearing: the facts.
        picture: relative link of its picture.
        audio: relative link of its sound; None for silence.
    """
    height, width = hearing.picture.shape[:2]
    link = escape(picture, quote=True)
    parts = [f"<h4>{_hearing_title(hearing)}</h4>", f"<p>{_heard_sentence(hearing)}</p>"]
    if audio is not None:
        source = escape(audio, quote=True)
        parts.append(f'<audio controls preload="none" src="{source}"></audio>')
    parts.append(
        f'<div class="wide"><a href="{link}"><img src="{link}" width="{width}" height="{height}" '
        f'loading="lazy" alt="frames, masks and log-mel, second by second"></a></div>'
    )
    parts.append(_tables(hearing))
    return "\n".join(parts)


def _hearing_title(hearing: Hearing) -> str:
    if hearing.condition == "original":
        return "With its own sound"
    if hearing.audio_file is None:
        return "The same frames in silence"
    return f"The same frames with the sound of {escape(hearing.sound_of)}"


def _heard_sentence(hearing: Hearing) -> str:
    if hearing.audio_file is None:
        marked = 100 * max(hearing.predicted_share, default=0.0)
        return f"Nothing is heard. The model marks at most {marked:.1f} % of a frame."
    if hearing.heard is None:
        return "The data do not tell what is heard when."
    names = sorted({name for names in hearing.heard for name in names})
    if not names:
        return "Nothing is heard."
    phrases = [
        f"{escape(name)} in {seconds_in_words([name in now for now in hearing.heard])}"
        for name in names
    ]
    text = f"Heard: {'; '.join(phrases)}."
    if hearing.condition != "original":
        text += (
            " If one of these is visible here, marking it is no mistake of hearing, although the "
            "scores above count it as one."
        )
    return text


def seconds_in_words(present: Sequence[bool]) -> str:
    """Returns "seconds 1, 2 and 5" for the seconds that are True, counted from one."""
    numbers = [str(second + 1) for second, here in enumerate(present) if here]
    if len(numbers) == len(present) > 1:
        return "every second"
    if len(numbers) < 2:
        return f"second {numbers[0]}" if numbers else "no second"
    return f"seconds {', '.join(numbers[:-1])} and {numbers[-1]}"


def _tables(hearing: Hearing) -> str:
    count = len(hearing.jaccard)
    heading = "<th></th>" + "".join(f"<th>second {second + 1}</th>" for second in range(count))
    rows = [_object_row(track) for track in hearing.objects]
    if hearing.condition == "original":
        cells = [number(value) + (" %" if value is not None else "") for value in hearing.jaccard]
        rows.append(f"<tr>{_cells(['Jaccard', *cells])}</tr>")
    if hearing.queries is not None:
        depth = max((len(notes) for notes in hearing.queries), default=0)
        for rank in range(depth):
            cells = [_query_cell(notes[rank]) for notes in hearing.queries]
            title = "surest query" if rank == 0 else f"{rank + 1}."
            rows.append(f"<tr><td>{title}</td>{''.join(cells)}</tr>")
    if not rows:
        return ""
    body = "\n".join(rows)
    return f'<div class="wide"><table class="seconds"><tr>{heading}</tr>\n{body}</table></div>'


def table_meanings() -> str:
    """How to read the tables below the pictures."""
    return """
<p>The table below each picture has a row for every object. ♪ stands where it is heard; the
percentage is how much of its visible area the model marked. Green: marked and heard, or unmarked
and unheard; red: the opposite. <em>Jaccard</em> is the score of the second's frame; where
nothing sounds it is the share of pixels that were rightly left alone. Below it stand the queries:
the model asks the picture many questions at once, each of which is made from the sound and answers
with a mask and with the probability that its mask makes the sound. The three surest ones of each
second are listed with that probability and with what their pixels lie on; grey ones were not
believed and marked nothing.</p>
"""


def _object_row(track: ObjectTrack) -> str:
    cells = [f"<td>{escape(track.name)}</td>"]
    for heard, marked in zip(track.heard, track.marked, strict=True):
        note = "♪ " if heard else ""
        if marked is None:
            cells.append(f"<td class=hidden>{note}not visible</td>")
        else:
            kind = "right" if (marked > MARKED_SHARE) == heard else "wrong"
            cells.append(f"<td class={kind}>{note}{100 * marked:.0f} %</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _query_cell(note: QueryNote) -> str:
    target = f" → {escape(note.target)}" if note.target else ""
    kind = "" if note.sounds else " class=silent"
    return f"<td{kind}>#{note.index}: {note.confidence:.2f}{target}</td>"


def figure(link: str, caption: str) -> str:
    """A picture with a line below it."""
    source = escape(link, quote=True)
    text = escape(caption)
    caption = f"<figcaption class=note>{text}</figcaption>"
    return f'<figure><img src="{source}" alt="{text}">{caption}</figure>'


def number(value: float | None, factor: float = 1.0, digits: int = 1) -> str:
    """A value with so many digits; a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else f"{factor * value:.{digits}f}"


def _cells(texts: Iterable[str]) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in texts)


def _swatch(color: tuple[float, float, float]) -> str:
    code = "".join(f"{round(255 * part):02x}" for part in color)
    return f'<span class="swatch" style="background:#{code}"></span>'
