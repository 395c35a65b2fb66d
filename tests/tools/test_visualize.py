"""visualize: a picture a clip, which clips, with which sound."""

import re
import shutil
from pathlib import Path

import listening_model
import numpy as np
import pytest
from PIL import Image

from transavs.data import CONDITIONS
from transavs.tools import visualize
from transavs.tools.visualize import choose_records, main, save_picture
from transavs.visualization import PREDICTION_COLOR, TRUTH_COLOR

SMALL = ("--cell-width", "40")


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    root = listening_model.write_clips(tmp_path / "clips")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    config = listening_model.write_config(tmp_path)
    return ["--config-file", str(config), "--output", str(tmp_path / "pictures"), *SMALL]


def weights_of(arguments: list[str]) -> list[str]:
    return ["--weights", str(Path(arguments[1]).parent / "model.pth")]


def read_pictures(arguments: list[str]) -> dict[str, np.ndarray]:
    folder = Path(arguments[3])
    return {path.name: np.array(Image.open(path)) for path in sorted(folder.iterdir())}


def holds(picture: np.ndarray, color: tuple[float, float, float]) -> bool:
    return bool((np.abs(picture - 255 * np.array(color)) < 1).all(axis=-1).any())


def test_a_picture_of_every_clip(arguments: list[str]) -> None:
    assert main([*arguments, *weights_of(arguments)]) == 0
    pictures = read_pictures(arguments)
    assert list(pictures) == ["loud_a.png", "loud_b.png", "quiet.png"]
    assert all(holds(picture, TRUTH_COLOR) for picture in pictures.values())
    # The model marks what is loud.
    marked = [holds(picture, PREDICTION_COLOR) for picture in pictures.values()]
    assert marked == [True, True, False]


def test_weights_may_come_as_an_override(arguments: list[str]) -> None:
    assert main([*arguments, "--count", "1", "MODEL.WEIGHTS", weights_of(arguments)[1]]) == 0
    assert list(read_pictures(arguments)) == ["loud_a.png"]


def test_ground_truth_needs_no_weights(arguments: list[str]) -> None:
    assert main([*arguments, "--ground-truth-only", "--dataset", "demo_ms3_test"]) == 0
    for picture in read_pictures(arguments).values():
        assert holds(picture, TRUTH_COLOR) and not holds(picture, PREDICTION_COLOR)


@pytest.mark.parametrize(
    ("condition", "clip", "marked"),
    [("silence", "loud_a", False), ("original", "loud_a", True), ("shuffled", "quiet", True)],
)
def test_conditions_change_the_sound(
    arguments: list[str], condition: str, clip: str, marked: bool
) -> None:
    words = [*weights_of(arguments), "--condition", condition, "--clips", clip]
    assert main([*arguments, *words]) == 0
    ((name, picture),) = read_pictures(arguments).items()
    assert name == f"{clip}.png" and holds(picture, PREDICTION_COLOR) == marked


def test_queries_add_a_row(arguments: list[str]) -> None:
    words = [*arguments, *weights_of(arguments), "--clips", "loud_a"]
    heights = []
    for option in ([], ["--draw-queries"]):
        assert main([*words, *option]) == 0
        heights.append(read_pictures(arguments)["loud_a.png"].shape[0])
    assert heights[1] > heights[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no weights: name the checkpoint"),
        (["--dataset", "x"], "no data set is called 'x'"),
        (["--ground-truth-only", "--clips", "loud_c"], "no clip 'loud_c' .*loud_b"),
        (["--ground-truth-only", "--cell-width", "0"], "--cell-width must be 1"),
        (["--ground-truth-only", "--count", "-1"], "--count must be 0"),
        (["--ground-truth-only", "DATASETS.TEST", "()"], "no DATASETS.TEST"),
        (["--ground-truth-only", "INPUT.CLIP_SECONDS"], "odd number of words"),
        (["--ground-truth-only", "INPUT.CLIP_SECONDS", "4"], "INPUT.CLIP_SECONDS is 4"),
        (["--weights", "model.pth", "MODEL.DEVICE", "cuda:7"], "no checkpoint|no GPU is usable"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, *words]) == 2
    errors = capsys.readouterr().err
    assert re.search(f"visualize: error: .*{message}", errors), errors


def test_a_mistake_leaves_no_folder_behind(arguments: list[str]) -> None:
    """The sound of the first clip is not there, which shows when it is drawn."""
    (sound,) = Path(arguments[1]).parent.glob("clips/**/audio_wav/**/loud_a.wav")
    sound.unlink()
    assert main([*arguments, "--ground-truth-only"]) == 2
    assert not Path(arguments[3]).exists()


def test_missing_gpu_is_told(
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main([*arguments, *weights_of(arguments), "MODEL.DEVICE", "cuda"]) == 2
    assert "take MODEL.DEVICE cpu" in capsys.readouterr().err


def test_interrupt_is_no_traceback(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("transavs.tools.visualize.draw_clip", interrupt)
    assert main([*arguments, "--ground-truth-only"]) == 130


def test_a_picture_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_text("former")
    picture = np.zeros((4, 4, 3), np.uint8)
    for error, told in (
        (OSError(28, "No space left on device"), OSError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):

        def half(_: object, target: Path, raised: BaseException = error, **__: object) -> None:
            Path(target).write_bytes(b"half")
            raise raised

        with monkeypatch.context() as patched, pytest.raises(told) as caught:
            patched.setattr(Image.Image, "save", half)
            save_picture(path, picture)
        if told is OSError:
            assert f"cannot write {path} (No space left on device)" in str(caught.value)
        assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
            ("a.png", "former")
        ]
    save_picture(path, picture)
    assert (np.array(Image.open(path)) == picture).all() and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="it is a folder"):
        save_picture(tmp_path, picture)
    assert list(tmp_path.iterdir()) == [path]


def test_chosen_clips_are_spread() -> None:
    records = [{"clip_id": str(number)} for number in range(10)]
    ids = [record["clip_id"] for record in choose_records(records, 4, [])]
    assert ids == ["0", "3", "6", "9"]
    assert choose_records(records, 0, []) == choose_records(records, 99, []) == records
    assert [r["clip_id"] for r in choose_records(records, 4, ["7", "2"])] == ["7", "2"]


def test_every_sound_on_one_picture(arguments: list[str], monkeypatch) -> None:
    """Bands of the sounds that the clips can have; the model marks under each that is loud."""
    warnings: list[str] = []
    monkeypatch.setattr(
        visualize.logger, "warning", lambda text, *args: warnings.append(text % args)
    )
    words = [*arguments, *weights_of(arguments), "--condition", "all", "--clips", "quiet"]
    assert main(words) == 0
    (picture,) = read_pictures(arguments).values()
    single = [*arguments[:3], str(Path(arguments[3]).parent / "one"), *SMALL]
    assert main([*single, *weights_of(arguments), "--clips", "quiet"]) == 0
    one = np.array(Image.open(Path(single[3]) / "quiet.png"))
    assert picture.shape[0] > 2 * one.shape[0]
    assert not warnings
    marked = (np.abs(picture - 255 * np.array(PREDICTION_COLOR)) < 1).all(axis=-1).any(axis=1)
    # One band of rows for each sound but silence and the clip's own, which is silent too.
    assert (np.diff(marked.astype(int)) == 1).sum() == len(CONDITIONS) - 2
    # Conditions that cannot be had are left out, and told.
    shutil.rmtree(Path(arguments[1]).parent / "clips/transavs_demo/Single-source")
    assert main(words) == 0
    assert len(warnings) == 1 and "left out offscreen" in warnings[0]
    (fewer,) = read_pictures(arguments).values()
    assert fewer.shape[0] < picture.shape[0]


def test_every_sound_compares_predictions(arguments: list[str], capsys) -> None:
    words = [*arguments, "--condition", "all", "--ground-truth-only"]
    assert main(words) == 2
    assert "--condition all compares predictions" in capsys.readouterr().err
