"""Curves of the cost: what is drawn is what was measured, on scales that compare."""

import pytest

from transavs.visualization import draw_scaling


def point(value, batch, seconds_per_clip, ratio):
    """A batch whose clips take so many seconds each, and so many times the encoders alone."""
    seconds = batch * seconds_per_clip
    return {
        "value": value, "seconds": seconds, "limit_seconds": seconds / ratio,
        "seconds_per_clip": seconds_per_clip, "ratio": ratio,
    }  # fmt: skip


CURVES = {
    "queries": [point(20, 1, 0.5, 1.25), point(300, 1, 1.0, 2.5)],
    "batch": [point(1, 1, 1.0, 2.5), point(4, 4, 0.8, 2.0)],
}


@pytest.fixture
def panels():
    figure = draw_scaling(CURVES, "a title")
    figure.canvas.draw()
    assert figure.get_suptitle() == "a title"
    return figure.axes


def test_times_are_of_a_clip(panels):
    """Four clips at once in 3.2 s, by encoders of 1.6 s: 800 and 400 ms a clip."""
    model, encoders = panels[1].lines
    assert model.get_ydata() == pytest.approx([1000, 800])
    assert encoders.get_ydata() == pytest.approx([400, 400])
    ratio, one = panels[3].lines
    assert list(ratio.get_ydata()) == [2.5, 2.0] and list(one.get_ydata()) == [1, 1]


def test_panels_of_a_row_compare(panels):
    assert len(panels) == 4
    assert panels[0].get_ylim() == panels[1].get_ylim() != panels[2].get_ylim()
    assert panels[2].get_ylim() == panels[3].get_ylim() and panels[3].get_ylim()[0] == 0


def test_labels_are_plain_numbers(panels):
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["20", "300"]
    low, high = panels[0].get_ylim()
    shown = {
        label.get_text()
        for label in panels[0].get_yticklabels()
        if low <= label.get_position()[1] <= high
    }
    assert {"500", "1,000"} <= shown
    assert panels[2].get_xlabel() == "queries" and panels[0].get_ylabel() == "ms a clip"


@pytest.mark.parametrize("curves", [{}, {"queries": []}])
def test_nothing_to_draw(curves):
    with pytest.raises(ValueError, match="at least one point"):
        draw_scaling(curves)
