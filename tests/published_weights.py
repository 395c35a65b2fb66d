"""Writes files of weights as they are published: names, shapes, containers; the values are random.

Names are spelled out here from the fact sheets of those files and not taken from the converters, so
that a mistake there does not hide in the tests.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = ("res5", "res4", "res3")


def resnet_names(depth: int) -> list[tuple[str, str, str]]:
    """Returns (detectron2's, torchvision's, Caffe2's) name of every convolution of a ResNet."""
    blocks = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
    names = [("stem.conv1", "conv1", "conv1")]
    for stage, count in enumerate(blocks):
        for block in range(count):
            own, public = f"res{stage + 2}.{block}", f"layer{stage + 1}.{block}"
            caffe = f"res{stage + 2}_{block}_branch"
            if block == 0:
                names.append((f"{own}.shortcut", f"{public}.downsample.0", f"{caffe}1"))
            for number, letter in enumerate("abc", start=1):
                names.append((f"{own}.conv{number}", f"{public}.conv{number}", f"{caffe}2{letter}"))
    return names


def torchvision_resnet(own: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Returns ``resnet50-*.pth``'s tensors for those of detectron2's ResNet."""
    file = {}
    for name, public, _ in resnet_names(depth):
        norm = public.replace("conv", "bn").replace("downsample.0", "downsample.1")
        file[f"{public}.weight"] = own[f"{name}.weight"]
        for kind in ("weight", "bias", "running_mean", "running_var"):
            file[f"{norm}.{kind}"] = own[f"{name}.norm.{kind}"]
        file[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    return file | {"fc.weight": torch.ones(1000, 2048), "fc.bias": torch.ones(1000)}


def converted_torchvision_resnet(own: dict[str, Tensor], depth: int) -> dict:
    """Returns the content of detectron2's ``torchvision/R-50.pkl``."""
    file = {}
    for name, *_ in resnet_names(depth):
        for kind in ("weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"):
            file[f"{name}.{kind}"] = own[f"{name}.{kind}"].numpy()
    file |= {"stem.fc.weight": torch.ones(1000, 64).numpy(), "stem.fc.bias": torch.ones(9).numpy()}
    return {"model": file, "__author__": "torchvision", "matching_heuristics": True}


def msra_resnet(own: dict[str, Tensor], depth: int) -> dict:
    """Returns the blobs of ``MSRA/R-50.pkl``; its norms are a scale and an offset."""
    blobs = {}
    for name, _, caffe in resnet_names(depth):
        norm = f"res_{caffe}_bn" if caffe == "conv1" else f"{caffe}_bn"
        blobs[f"{caffe}_w"] = own[f"{name}.weight"].numpy()
        blobs[f"{norm}_s"] = own[f"{name}.norm.weight"].numpy()
        blobs[f"{norm}_b"] = own[f"{name}.norm.bias"].numpy()
    blobs["conv1_b"] = torch.zeros(64).numpy()
    blobs |= {"fc1000_w": torch.ones(1000, 64).numpy(), "fc1000_b": torch.ones(1000).numpy()}
    return {"blobs": blobs}


def swin_of_its_authors(swin: dict[str, Tensor]) -> dict:
    """Returns ``swin_base_patch4_window12_384_22k.pth`` for detectron2's Swin."""
    file = OrderedDict((k, v) for k, v in swin.items() if not k.startswith("norm"))
    file["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    width = next(v for k, v in reversed(swin.items()) if k.startswith("norm")).shape[0]
    file |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    file |= {"head.weight": torch.ones(21841, width), "head.bias": torch.zeros(21841)}
    return {"model": file}


def mask2former_head(
    inputs: dict[str, int], classes: int = 80, channels: int = 256, hidden: int = 2048
) -> OrderedDict[str, Tensor]:
    """Returns the random tensors of ``sem_seg_head`` and ``criterion`` of a released model.

    Args:
        inputs: channels of res2 to res5.
        classes: K of COCO instance segmentation.
        channels: of a query, at full size 256.
        hidden: of the decoder's feed-forward layers, at full size 2048.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    pixel = "sem_seg_head.pixel_decoder."

    def add(name: str, out: int, *others: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (out, *others)
        if bias:
            shapes[f"{name}.bias"] = (out,)

    for index, level in enumerate(LEVELS):
        add(f"{pixel}input_proj.{index}.0", channels, inputs[level], 1, 1)
        add(f"{pixel}input_proj.{index}.1", channels)
    shapes[f"{pixel}transformer.level_embed"] = (3, channels)
    for layer in range(6):
        prefix = f"{pixel}transformer.encoder.layers.{layer}."
        add(f"{prefix}self_attn.sampling_offsets", 8 * 3 * 4 * 2, channels)
        add(f"{prefix}self_attn.attention_weights", 8 * 3 * 4, channels)
        add(f"{prefix}self_attn.value_proj", channels, channels)
        add(f"{prefix}self_attn.output_proj", channels, channels)
        add(f"{prefix}norm1", channels)
        add(f"{prefix}linear1", 1024, channels)
        add(f"{prefix}linear2", channels, 1024)
        add(f"{prefix}norm2", channels)
    add(f"{pixel}mask_features", channels, channels, 1, 1)
    add(f"{pixel}adapter_1", channels, inputs["res2"], 1, 1, bias=False)
    add(f"{pixel}adapter_1.norm", channels)
    add(f"{pixel}layer_1", channels, channels, 3, 3, bias=False)
    add(f"{pixel}layer_1.norm", channels)
    predictor = "sem_seg_head.predictor."
    for kind, attention in (("self", "self_attn"), ("cross", "multihead_attn")):
        for layer in range(9):
            prefix = f"{predictor}transformer_{kind}_attention_layers.{layer}."
            shapes[f"{prefix}{attention}.in_proj_weight"] = (3 * channels, channels)
            shapes[f"{prefix}{attention}.in_proj_bias"] = (3 * channels,)
            add(f"{prefix}{attention}.out_proj", channels, channels)
            add(f"{prefix}norm", channels)
    for layer in range(9):
        prefix = f"{predictor}transformer_ffn_layers.{layer}."
        add(f"{prefix}linear1", hidden, channels)
        add(f"{prefix}linear2", channels, hidden)
        add(f"{prefix}norm", channels)
    add(f"{predictor}decoder_norm", channels)
    for name, count in (("query_feat", 100), ("query_embed", 100), ("level_embed", 3)):
        shapes[f"{predictor}{name}.weight"] = (count, channels)
    add(f"{predictor}class_embed", classes + 1, channels)
    for layer in range(3):
        add(f"{predictor}mask_embed.layers.{layer}", channels, channels)
    shapes["criterion.empty_weight"] = (classes + 1,)
    generator = torch.Generator().manual_seed(1)
    return OrderedDict((name, _random(name, shape, generator)) for name, shape in shapes.items())


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = torch.randn(shape, generator=generator)
    if name.endswith("sampling_offsets.bias"):
        return 2 * values  # cells
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.1 * values
    return values / math.sqrt(math.prod(shape[1:]) or 1) if len(shape) > 1 else 0.1 * values


def reference_pixel_decoder(
    file: dict[str, Tensor], features: dict[str, Tensor], positions: list[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Returns Mask2Former's multi-scale features (coarse to fine) and mask features.

    Written from the description of its deformable encoder, on the tensors by their names in the
    file: none of our modules takes part.

    Args:
        file: tensors of ``sem_seg_head.pixel_decoder``, without that prefix.
        features: res2 to res5, ``[N, C, h, w]``.
        positions: of res5, res4 and res3, ``[h * w, C]``.
    """
    maps = []
    for index, level in enumerate(LEVELS):
        prefix = f"input_proj.{index}."
        projected = F.conv2d(features[level], file[f"{prefix}0.weight"], file[f"{prefix}0.bias"])
        maps.append(F.group_norm(projected, 32, file[f"{prefix}1.weight"], file[f"{prefix}1.bias"]))
    sizes = [level.shape[-2:] for level in maps]
    tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1)
    position = torch.cat(
        [own + file["transformer.level_embed"][index] for index, own in enumerate(positions)]
    )
    centres = torch.cat([_centres(*size) for size in sizes])
    for layer in range(6):
        weights = {
            name.split(".", 4)[4]: value
            for name, value in file.items()
            if name.startswith(f"transformer.encoder.layers.{layer}.")
        }
        attended = _deformable(weights, tokens + position, centres, tokens, sizes)
        tokens = _norm(weights, "norm1", tokens + attended)
        hidden = F.relu(_linear(weights, "linear1", tokens))
        tokens = _norm(weights, "norm2", tokens + _linear(weights, "linear2", hidden))
    parts = tokens.split([height * width for height, width in sizes], 1)
    memory = [
        part.transpose(1, 2).reshape(len(part), -1, *size)
        for part, size in zip(parts, sizes, strict=True)
    ]
    fine = F.conv2d(features["res2"], file["adapter_1.weight"])
    fine = F.group_norm(fine, 32, file["adapter_1.norm.weight"], file["adapter_1.norm.bias"])
    fine = fine + F.interpolate(memory[-1], fine.shape[-2:], mode="bilinear", align_corners=False)
    fine = F.conv2d(fine, file["layer_1.weight"], padding=1)
    fine = F.group_norm(fine, 32, file["layer_1.norm.weight"], file["layer_1.norm.bias"])
    masks = F.conv2d(F.relu(fine), file["mask_features.weight"], file["mask_features.bias"])
    return memory, masks


def _centres(height: int, width: int) -> Tensor:
    """(x, y) of the cells of a map, row by row, ``[h * w, 2]``."""
    rows = torch.linspace(0.5, height - 0.5, height) / height
    columns = torch.linspace(0.5, width - 0.5, width) / width
    return torch.stack((columns.repeat(height), rows.repeat_interleave(width)), 1)


def _linear(weights: dict[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    return F.linear(tokens, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights: dict[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    return F.layer_norm(
        tokens, tokens.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"]
    )


def _deformable(
    weights: dict[str, Tensor],
    queries: Tensor,
    centres: Tensor,
    memory: Tensor,
    sizes: list[torch.Size],
) -> Tensor:
    """Multi-scale deformable attention: 8 heads read 4 points of each of 3 maps."""
    frames, count, channels = queries.shape
    value = _linear(weights, "self_attn.value_proj", memory).view(frames, -1, 8, channels // 8)
    offsets = _linear(weights, "self_attn.sampling_offsets", queries)
    offsets = offsets.view(frames, count, 8, 3, 4, 2)
    attention = _linear(weights, "self_attn.attention_weights", queries).view(frames, count, 8, 12)
    attention = attention.softmax(-1).view(frames, count, 8, 3, 4)
    read, start = [], 0
    for level, (height, width) in enumerate(sizes):
        own = value[:, start : start + height * width]
        start += height * width
        image = own.flatten(2).transpose(1, 2).reshape(frames * 8, channels // 8, height, width)
        cells = torch.tensor([float(width), float(height)])
        places = centres[None, :, None, None] + offsets[:, :, :, level] / cells
        grid = (2 * places - 1).transpose(1, 2).flatten(0, 1)
        read.append(F.grid_sample(image, grid, mode="bilinear", align_corners=False))
    weight = attention.transpose(1, 2).reshape(frames * 8, 1, count, 12)
    output = (torch.stack(read, -2).flatten(-2) * weight).sum(-1)
    output = output.view(frames, channels, count).transpose(1, 2)
    return _linear(weights, "self_attn.output_proj", output)


def mask2former_position(height: int, width: int, channels: int = 256) -> Tensor:
    """Returns its sine encoding float64 ``[h * w, C]``: row half, column half, (sin, cos) pairs."""
    half = channels // 2
    index = torch.arange(half, dtype=torch.float64)
    period = 10000 ** (2 * (index // 2) / half)

    def encode(cells: int) -> Tensor:
        place = torch.arange(1, cells + 1, dtype=torch.float64) / (cells + 1e-6) * 2 * math.pi
        angle = place[:, None] / period
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), 2).flatten(1)

    rows, columns = encode(height), encode(width)
    return torch.cat(
        (rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)), 2
    ).flatten(0, 1)


class ReferenceDecoderLayer(nn.Module):
    """A round of Mask2Former's decoder by torch's own attention, without mask."""

    def __init__(self, file: dict[str, Tensor], layer: int, channels: int, hidden: int) -> None:
        super().__init__()
        predictor = "sem_seg_head.predictor.transformer_"
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.cross = nn.MultiheadAttention(channels, 8, batch_first=True)
        self.own = nn.MultiheadAttention(channels, 8, batch_first=True)
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        for module, name in (
            (self.cross, f"cross_attention_layers.{layer}.multihead_attn."),
            (self.norms[0], f"cross_attention_layers.{layer}.norm."),
            (self.own, f"self_attention_layers.{layer}.self_attn."),
            (self.norms[1], f"self_attention_layers.{layer}.norm."),
            (self.linear1, f"ffn_layers.{layer}.linear1."),
            (self.linear2, f"ffn_layers.{layer}.linear2."),
            (self.norms[2], f"ffn_layers.{layer}.norm."),
        ):
            prefix = predictor + name
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in file.items() if k.startswith(prefix)}
            )

    def forward(self, queries: Tensor, memory: Tensor, query_position: Tensor, position: Tensor):
        placed = queries + query_position
        attended = self.cross(placed, memory + position, memory, need_weights=False)[0]
        queries = self.norms[0](queries + attended)
        placed = queries + query_position
        queries = self.norms[1](queries + self.own(placed, placed, queries, need_weights=False)[0])
        return self.norms[2](queries + self.linear2(F.relu(self.linear1(queries))))
