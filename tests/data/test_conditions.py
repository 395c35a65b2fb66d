"""Audio conditions change what is heard and nothing else."""

import copy

import pytest

from transavs.data.conditions import CONDITIONS, with_condition


def make_records(count: int) -> list[dict]:
    return [
        {
            "clip_id": f"clip{i}",
            "file_names": [f"{i}_{second}.png" for second in range(5)],
            "audio_file": f"{i}.wav",
            "log_mel_file": f"{i}.pkl",
            "sounding_objects": [[i]] * 5,
            "sound_labels": [[i]] * 5,
        }
        for i in range(count)
    ]


# Off-screen sounds need a registered data set: see test_offscreen.py.
@pytest.mark.parametrize("condition", sorted(set(CONDITIONS) - {"offscreen"}))
def test_clips_stay_and_inputs_are_not_changed(condition: str) -> None:
    records = make_records(6)
    before = copy.deepcopy(records)
    changed = with_condition(records, condition, seed=3)
    assert records == before
    for record, other in zip(records, changed, strict=True):
        assert other is not record
        for key in ("clip_id", "file_names", "sounding_objects"):
            assert other[key] == record[key]


def test_original_is_a_copy() -> None:
    assert with_condition(make_records(1), "original") == make_records(1)


def test_silence() -> None:
    for record in with_condition(make_records(3), "silence"):
        assert record["audio_condition"] == "silence"
        assert record["sound_labels"] == [[]] * 5


def test_noise_is_another_in_each_clip_and_the_same_again() -> None:
    noisy = with_condition(make_records(3), "noise", seed=4)
    assert [record["audio_condition"] for record in noisy] == ["noise"] * 3
    assert len({record["audio_seed"] for record in noisy}) == 3
    assert noisy == with_condition(make_records(3), "noise", seed=4)
    assert noisy[0]["sound_labels"] == [[]] * 5


@pytest.mark.parametrize("count", [2, 3, 4, 17])
def test_shuffled_is_a_derangement(count: int) -> None:
    for seed in range(10):
        shuffled = with_condition(make_records(count), "shuffled", seed)
        sources = [record["audio_file"] for record in shuffled]
        assert sorted(sources) == sorted(f"{i}.wav" for i in range(count))
        for i, record in enumerate(shuffled):
            source = record["audio_clip_id"].removeprefix("clip")
            assert record["audio_file"] == f"{source}.wav" != f"{i}.wav"
            assert record["log_mel_file"] == f"{source}.pkl"
            assert record["sound_labels"] == [[int(source)]] * 5
            assert record["audio_condition"] == "original"


def test_shuffled_sounds_are_of_the_same_length() -> None:
    records = make_records(7)
    for record in records[3:]:
        record["file_names"] = record["file_names"] * 2
    for seed in range(5):
        sources = [record["audio_file"] for record in with_condition(records, "shuffled", seed)]
        assert sorted(sources[:3]) == ["0.wav", "1.wav", "2.wav"]
        assert all(source != f"{own}.wav" for own, source in enumerate(sources))
    # One long clip among short ones has to take what there is.
    shuffled = with_condition(records[:4], "shuffled")
    assert shuffled[3]["audio_file"] in {"0.wav", "1.wav", "2.wav"}


def test_seed_decides() -> None:
    def partners(seed: int) -> list[str]:
        shuffled = with_condition(make_records(30), "shuffled", seed)
        return [record["audio_file"] for record in shuffled]

    assert partners(0) == partners(0) != partners(1)


def test_records_without_sound_labels_get_none() -> None:
    records = make_records(2)
    for record in records:
        del record["sound_labels"]
    for condition in set(CONDITIONS) - {"offscreen"}:
        assert all("sound_labels" not in r for r in with_condition(records, condition))


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least 2 clips, got 1"):
        with_condition(make_records(1), "shuffled")
    with pytest.raises(
        ValueError, match="original, silence, noise, offscreen, shuffled, got 'whispers'"
    ):
        with_condition(make_records(2), "whispers")
