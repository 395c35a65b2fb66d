"""HTS-AT: its front-end against a float64 reference, its network against its description, and the
files in which it is published."""

import math

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from transavs.audio import CLAPHTSAT, HTSAT, load_encoder_weights, white_noise
from transavs.audio.hts_at_log_mel import HTSATLogMel, mel_matrix

RATES = (32_000, 48_000)
#: A network of an eighth of the width: names and structure are those of the full one.
SMALL = {"embed_dim": 12, "depths": (2, 2, 2, 1), "num_heads": (1, 2, 2, 4)}


def slaney_mel(hz):
    """Linear below 1 kHz, 15 mel there; above it, 27 steps for a factor of 6.4."""
    hz = np.asarray(hz, dtype=np.float64)
    return np.where(
        hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1) / 1000) / np.log(6.4) * 27
    )


def slaney_hz(mel):
    mel = np.asarray(mel, dtype=np.float64)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def reference_filters(rate: int) -> np.ndarray:
    """Triangles of equal area between 66 edges, evenly spaced in mel from 50 to 14 000 Hz."""
    edges = slaney_hz(np.linspace(slaney_mel(50), slaney_mel(14_000), 66))
    bins = np.arange(513) * rate / 1024
    filters = np.zeros((513, 64))
    for band in range(64):
        low, centre, high = edges[band : band + 3]
        triangle = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
        filters[:, band] = np.maximum(triangle, 0) * 2 / (high - low)
    return filters


def reference_examples(waveform: np.ndarray, rate: int, seconds: int) -> np.ndarray:
    """Float64, by the definition: no function of torch takes part."""
    hop = rate // 100
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    padded = np.zeros(seconds * rate)
    padded[: min(len(waveform), len(padded))] = waveform[: len(padded)]
    examples = []
    for second in padded.reshape(seconds, rate):
        reflected = np.pad(second, 512, mode="reflect")
        frames = np.stack([reflected[k * hop : k * hop + 1024] for k in range(101)])
        power = np.abs(np.fft.rfft(frames * window)) ** 2
        examples.append(10 * np.log10(np.maximum(power @ reference_filters(rate), 1e-10)))
    return np.stack(examples)[:, None]


@pytest.mark.parametrize("rate", RATES)
def test_front_end_equals_the_reference(rate):
    noise = white_noise(rate * 2 + 500, seed=3).double()
    tone = 0.5 * torch.sin(2 * math.pi * 1000 * torch.arange(len(noise)) / rate)
    for waveform in (noise, tone.double()):
        examples = HTSATLogMel(rate).clip_examples(waveform, 3)
        assert examples.shape == (3, 1, 101, 64) and examples.dtype == torch.float32
        expected = reference_examples(waveform.numpy(), rate, 3)
        # The filters are float32; beside a loud tone, bands of hardly any power show that most.
        np.testing.assert_allclose(examples.numpy(), expected, atol=2e-2)
        assert np.abs(examples.numpy() - expected).mean() < 1e-4


def test_silence_and_errors():
    front_end = HTSATLogMel(32_000)
    silent = front_end.clip_examples(torch.zeros(10), 2)
    assert torch.equal(silent, torch.full((2, 1, 101, 64), -100.0))
    with pytest.raises(ValueError, match="at least 1 second"):
        front_end.clip_examples(torch.zeros(10), 0)
    with pytest.raises(ValueError, match="at least one sample"):
        front_end.clip_examples(torch.zeros(0), 1)
    with pytest.raises(ValueError, match=r"shape \[S, 1, 101, 64\], got .*\[2, 1, 96, 64\]"):
        front_end.check(torch.zeros(2, 1, 96, 64))


def small(kind=HTSAT, seed=0):
    torch.manual_seed(seed)
    encoder = kind(**SMALL)
    for tensor in encoder.state_dict().values():
        if tensor.is_floating_point():
            tensor += 0.1 * torch.rand_like(tensor)
    return encoder.eval()


def window_positions() -> torch.Tensor:
    """Index of the relative position of each pair of an 8 x 8 window, rows before columns."""
    row, column = (part.flatten() for part in torch.meshgrid(*[torch.arange(8)] * 2, indexing="ij"))
    return (row[:, None] - row + 7) * 15 + column[:, None] - column + 7


def reference_embedding(w: dict, examples: torch.Tensor, depths, heads) -> torch.Tensor:
    """HTS-AT by its description, on tensors by their published names; no module takes part."""
    scale = w["bn0.weight"] / (w["bn0.running_var"] + 1e-5).sqrt()
    mel = (examples - w["bn0.running_mean"]) * scale + w["bn0.bias"]
    mel = torch.cat([mel] * 10, dim=2)
    mel = F.interpolate(mel, (1024, 64), mode="bicubic", align_corners=True)[:, 0]
    picture = torch.cat([mel[:, k * 256 : (k + 1) * 256].mT for k in range(4)], dim=1)[:, None]

    def norm(name, tokens):
        return F.layer_norm(tokens, tokens.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(name, tokens):
        return F.linear(tokens, w[f"{name}.weight"], w.get(f"{name}.bias"))

    patches = F.conv2d(picture, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=4)
    tokens = norm("patch_embed.norm", patches.permute(0, 2, 3, 1))  # [S, 64, 64, C]
    for stage, (depth, head) in enumerate(zip(depths, heads, strict=True)):
        side = tokens.shape[1]
        for number in range(depth):
            name = f"layers.{stage}.blocks.{number}"
            shift = 4 if number % 2 and side > 8 else 0
            moved = norm(f"{name}.norm1", tokens).roll((-shift, -shift), (1, 2))
            # Places that only the roll brought together do not see each other.
            zone = torch.zeros(side, dtype=torch.int64)
            if shift:
                zone[-8:-4], zone[-4:] = 1, 2
            zones = (3 * zone[:, None] + zone)[None, :, :, None]

            def windows(grid, side=side):
                size, channels = side // 8, grid.shape[-1]
                grid = grid.reshape(-1, size, 8, size, 8, channels).transpose(2, 3)
                return grid.reshape(-1, size * size, 64, channels)

            query, key, value = (
                part.unflatten(-1, (head, -1)).transpose(2, 3)
                for part in linear(f"{name}.attn.qkv", windows(moved)).chunk(3, -1)
            )
            score = query @ key.mT / math.sqrt(query.shape[-1])
            table = w[f"{name}.attn.relative_position_bias_table"]
            score = score + table[window_positions()].permute(2, 0, 1)
            zone_of = windows(zones)[..., 0]
            apart = zone_of[..., None] != zone_of[..., None, :]
            score = score.masked_fill(apart[:, :, None], -math.inf)
            heard = (score.softmax(-1) @ value).transpose(2, 3).flatten(3)
            heard = linear(f"{name}.attn.proj", heard)
            size = side // 8
            heard = heard.reshape(-1, size, size, 8, 8, heard.shape[-1]).transpose(2, 3)
            heard = heard.reshape(moved.shape).roll((shift, shift), (1, 2))
            tokens = tokens + heard
            hidden = F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", tokens)))
            tokens = tokens + linear(f"{name}.mlp.fc2", hidden)
        if f"layers.{stage}.downsample.reduction.weight" in w:
            corners = [tokens[:, r::2, c::2] for c in (0, 1) for r in (0, 1)]
            merged = norm(f"layers.{stage}.downsample.norm", torch.cat(corners, -1))
            tokens = linear(f"layers.{stage}.downsample.reduction", merged)
    return norm("norm", tokens).mean((1, 2))


def published(encoder: HTSAT) -> dict[str, torch.Tensor]:
    """The tensors of ``HTSAT_AudioSet_Saved_1.ckpt``, without its prefix."""
    file = {}
    for name, tensor in encoder.state_dict().items():
        name = name.removeprefix("swin.")
        if name.startswith("batch_norm."):
            name = name.replace("batch_norm.", "bn0.")
        if ".downsample." in name:
            stage = int(name.split(".")[1])
            name = name.replace(f"layers.{stage}.", f"layers.{stage - 1}.")
        file[name] = tensor.clone()
    rate = encoder.front_end.sample_rate_hz
    file["spectrogram_extractor.stft.conv_real.weight"] = torch.zeros(513, 1, 1024)
    file["spectrogram_extractor.stft.conv_imag.weight"] = torch.zeros(513, 1, 1024)
    file["logmel_extractor.melW"] = torch.from_numpy(reference_filters(rate)).float()
    file["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 64, 64)
    file["layers.0.blocks.1.attn.relative_position_index"] = window_positions()
    file["tscam_conv.weight"] = torch.zeros(527, 96, 2, 3)
    file["tscam_conv.bias"] = torch.zeros(527)
    file["head.weight"], file["head.bias"] = torch.zeros(527, 527), torch.zeros(527)
    return file


def of_transformers(file: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same in the names of ``clap-htsat-unfused``, which has queries, keys, values apart."""
    names = {
        "norm1": "layernorm_before", "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense", "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "attn.relative_position_bias_table": "attention.self.relative_position_bias_table",
        "attn.relative_position_index": "attention.self.relative_position_index",
    }  # fmt: skip
    renamed = {"logit_scale_a": torch.ones(()), "text_model.pooler.dense.bias": torch.ones(2)}
    for name, tensor in file.items():
        if name.split(".")[0].endswith(("extractor", "tscam_conv", "head")) or "mask" in name:
            continue
        name = name.replace("bn0.", "batch_norm.")
        for old, new in names.items():
            name = name.replace(f".{old}", f".{new}")
        if ".attn.qkv." in name:
            for kind, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                inner = name.replace("attn.qkv", f"attention.self.{kind}")
                renamed[f"audio_model.audio_encoder.{inner}"] = part.clone()
        else:
            renamed[f"audio_model.audio_encoder.{name}"] = tensor
    return renamed | {"audio_projection.linear1.weight": torch.ones(2, 2)}


def test_network_equals_its_description():
    encoder = small()
    examples = HTSAT.front_end.clip_examples(white_noise(64_000, seed=1), 2)
    with torch.no_grad():
        embeddings = encoder(examples)
        expected = reference_embedding(
            published(encoder), examples, SMALL["depths"], SMALL["num_heads"]
        )
    assert embeddings.shape == (2, 96) == (2, encoder.embedding_dim)
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-3
    torch.testing.assert_close(embeddings, expected, atol=1e-4, rtol=1e-4)


def test_full_size():
    with torch.device("meta"):
        encoder = HTSAT()
    count = sum(parameter.numel() for parameter in encoder.parameters())
    # Swin-T without its head has 27 519 354. Here its patches have one channel, its 138 position
    # tables of 13 x 13 are 184 of 15 x 15, and 64 mel bands have a norm.
    swin = 27_519_354 - 2 * 16 * 96 - 138 * 169 + 184 * 225
    assert encoder.embedding_dim == 768 and count == swin + 2 * 64


@pytest.mark.parametrize("kind", ["AudioSet", "LAION", "LAION in processes", "transformers"])
def test_published_files(tmp_path, kind, caplog):
    clap = kind != "AudioSet"
    source = small(CLAPHTSAT if clap else HTSAT)
    file = published(source)
    path = tmp_path / "file.ckpt"
    if kind == "transformers":
        path = tmp_path / "model.safetensors"
        safetensors.torch.save_file(of_transformers(file), path)
    else:
        prefix = {"AudioSet": "sed_model.", "LAION": "audio_branch."}.get(
            kind, "module.audio_branch."
        )
        content = {prefix + name: tensor for name, tensor in file.items()}
        if clap:
            content[prefix.replace("audio_branch.", "text_branch.x")] = torch.ones(1)
        torch.save({"epoch": 3, "state_dict": content}, path)
    loaded = small(type(source), seed=1)
    with caplog.at_level("INFO"):
        load_encoder_weights(loaded, path)
    for name, tensor in source.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert "left, follows from the architecture" in caplog.text
    assert ("left, not of the audio branch" in caplog.text) == clap


def test_files_that_do_not_fit(tmp_path):
    def assert_refused(content, message, kind=HTSAT):
        torch.save(content, tmp_path / "file.pt")
        with pytest.raises(ValueError, match=message):
            load_encoder_weights(small(kind), tmp_path / "file.pt")

    file = published(small())
    assert_refused(file, r"file\.pt does not fit CLAPHTSAT: .*48000 Hz.*HTSAT", CLAPHTSAT)
    fused = {"audio_branch.patch_embed.mel_conv2d.weight": torch.ones(1), **file}
    assert_refused(fused, "feature fusion.*take the one without")
    assert_refused(
        file | {"layers.0.blocks.7.mlp.fc1.bias": torch.ones(2)}, "no audio_encoder.swin.lay"
    )
    assert_refused({k: v for k, v in file.items() if k != "norm.bias"}, r"lacks: .*swin\.norm\.bia")
    half = of_transformers(file)
    del half["audio_model.audio_encoder.layers.0.blocks.0.attention.self.key.bias"]
    assert_refused(half, r"lacks: .*swin\.layers\.0\.blocks\.0\.attn\.qkv\.bias")


def test_mel_filters_are_torchlibrosas():
    for rate in RATES:
        np.testing.assert_allclose(mel_matrix(rate).numpy(), reference_filters(rate), atol=2e-6)


def test_learns_where_it_is_not_frozen():
    encoder = small().train()
    encoder(torch.randn(1, 1, 101, 64)).square().sum().backward()
    grads = {name: p.grad for name, p in encoder.named_parameters()}
    assert all(grad is not None for grad in grads.values()), grads.keys()
    assert isinstance(encoder.batch_norm, nn.BatchNorm2d)
