"""Parts that once fixed the number of pictures or sounds are followed for any."""

import torch
from detectron2.modeling.backbone import swin
from torch import nn

from transavs.audio.no_audio import NoAudio
from transavs.engine.export.exporter import swin_of_any_batch


class Windows(nn.Module):
    def forward(self, windows):
        return swin.window_reverse(windows, 4, 8, 12)


def test_windows_of_swin():
    theirs = swin.window_reverse
    pictures = torch.export.Dim("pictures")
    with swin_of_any_batch():
        assert swin.window_reverse is not theirs
        program = torch.export.export(
            Windows(), (torch.randn(12, 4, 4, 3),), dynamic_shapes={"windows": {0: 6 * pictures}}
        )
    assert swin.window_reverse is theirs
    for count in (3, 5):
        windows = torch.randn(count * 6, 4, 4, 3)
        assert torch.equal(program.module()(windows), theirs(windows, 4, 8, 12))


class Embeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = NoAudio()

    def forward(self, examples):
        return self.encoder.embed(examples)


def test_sounds_that_nobody_hears():
    program = torch.export.export(
        Embeddings(), (torch.randn(2, 1, 96, 64),),
        dynamic_shapes={"examples": {0: torch.export.Dim("count")}},
    )  # fmt: skip
    for count in (1, 5):
        found = program.module()(torch.randn(count, 1, 96, 64))
        assert torch.equal(found, torch.zeros(count, 1))
