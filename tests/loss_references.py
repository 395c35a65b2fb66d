"""The losses once more, as slow loops over plain float64 numbers, for the tests to compare with.

Written from the formulas alone (TransAVS, arXiv 2305.07223, Eq. 9 to 13): nothing is taken from
``transavs.losses``, and nothing is vectorised that the library vectorises.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sigmoid(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))


def softmax(row: Sequence[float]) -> list[float]:
    largest = max(row)
    powers = [math.exp(value - largest) for value in row]
    return [power / sum(powers) for power in powers]


def focal(logits: Sequence[float], label: int, weights: Sequence[float], gamma: float) -> float:
    """``-w_y (1 - p_y)^gamma log p_y`` of one element."""
    probability = softmax(logits)[label]
    return -weights[label] * (1 - probability) ** gamma * math.log(probability)


def dice(logits: Array, mask: Array) -> float:
    """Dice loss of one mask ``[H, W]``."""
    overlap = predicted = true = 0.0
    for logit, truth in zip(logits.ravel(), mask.ravel(), strict=True):
        probability = sigmoid(float(logit))
        overlap += probability * float(truth)
        predicted += probability
        true += float(truth)
    return 1 - (2 * overlap + 1) / (predicted + true + 1)


def binary_cross_entropy(logits: Array, mask: Array) -> float:
    """Mean over the pixels of one mask ``[H, W]``."""
    total = 0.0
    for logit, truth in zip(logits.ravel(), mask.ravel(), strict=True):
        probability = sigmoid(float(logit))
        total -= float(truth) * math.log(probability)
        total -= (1 - float(truth)) * math.log(1 - probability)
    return total / logits.size


def area_average(image: Array, height: int, width: int) -> Array:
    """An image ``[H, W]`` as means over the cells of a coarser grid, which may overlap."""
    result = np.zeros((height, width))
    for row, column in itertools.product(range(height), range(width)):
        top, bottom = row * image.shape[0] // height, -(-(row + 1) * image.shape[0] // height)
        left, right = column * image.shape[1] // width, -(-(column + 1) * image.shape[1] // width)
        result[row, column] = image[top:bottom, left:right].mean()
    return result


def bilinear(image: Array, height: int, width: int) -> Array:
    """An image ``[h, w]`` resized with pixel centres at half integers, its border repeated."""
    result = np.zeros((height, width))
    for row, column in itertools.product(range(height), range(width)):
        y = max((row + 0.5) * image.shape[0] / height - 0.5, 0.0)
        x = max((column + 0.5) * image.shape[1] / width - 0.5, 0.0)
        for corner_y, corner_x in itertools.product((0, 1), (0, 1)):
            share_y = y - int(y) if corner_y else 1 - (y - int(y))
            share_x = x - int(x) if corner_x else 1 - (x - int(x))
            source = image[
                min(int(y) + corner_y, image.shape[0] - 1),
                min(int(x) + corner_x, image.shape[1] - 1),
            ]
            result[row, column] += share_y * share_x * source
    return result


def query_distance_loss(
    queries: Array,
    confident: NDArray[np.bool_],
    projection: Array,
    distance: float,
    epsilon: float,
    normalize: bool = False,
) -> float:
    """AQDL of N frames, Eq. (9) and (10): queries ``[N, Q, C]``, none of which coincide."""
    total = 0.0
    for frame, members in zip(queries, confident, strict=True):
        projected = [projection @ query for query in frame]
        if normalize:
            projected = [query / math.sqrt(float(query @ query)) for query in projected]
        chosen = [query for query, member in zip(projected, members, strict=True) if member]
        value = 0.0
        for i in range(len(chosen)):
            for j in range(i + 1, len(chosen)):
                squared = sum(
                    (float(a) - float(b)) ** 2 for a, b in zip(chosen[i], chosen[j], strict=True)
                )
                if squared < distance:
                    value += 1 / (squared + epsilon)
        total += value / (len(chosen) + 1)
    return total / len(queries)


def query_mask_loss(mask_logits: Array, confident: NDArray[np.bool_]) -> float:
    """AQML of N frames, Eq. (11) and (12), pair by pair and pixel by pixel: ``[N, Q, h, w]``."""
    total = 0.0
    for frame, members in zip(mask_logits, confident, strict=True):
        chosen = [
            [sigmoid(float(logit)) for logit in mask.ravel()]
            for mask, member in zip(frame, members, strict=True)
            if member
        ]
        value = 0.0
        for i in range(len(chosen)):
            for j in range(i + 1, len(chosen)):
                overlap = sum(
                    (a > 0.5) * b + a * (b > 0.5) for a, b in zip(chosen[i], chosen[j], strict=True)
                )
                value += overlap / (2 * frame[0].size)
        total += value / (len(chosen) + 1)
    return total / len(mask_logits)


def best_assignment(cost: Array) -> tuple[float, list[tuple[int, int]]]:
    """The cheapest pairs (row, column) of a cost matrix by trying every assignment."""
    rows, columns = cost.shape
    best, pairs = math.inf, []
    if rows >= columns:
        tries = (
            list(zip(chosen, range(columns), strict=True))
            for chosen in itertools.permutations(range(rows), columns)
        )
    else:
        tries = (
            list(zip(range(rows), chosen, strict=True))
            for chosen in itertools.permutations(range(columns), rows)
        )
    for attempt in tries:
        total = sum(cost[row, column] for row, column in attempt)
        if total < best:
            best, pairs = total, attempt
    return best, pairs


@dataclass(frozen=True)
class Layer:
    """Predictions of one decoder layer: queries [N,Q,C], class [N,Q,K+1], mask logits [N,Q,h,w]."""

    queries: Array
    class_logits: Array
    mask_logits: Array


@dataclass(frozen=True)
class Weights:
    """The settings of the objective."""

    class_weight: float = 5.0
    dice: float = 5.0
    bce: float = 0.0
    aqdl: float = 2.0
    aqml: float = 2.0
    gamma: float = 2.0
    no_object: float = 0.1
    distance: float = 1.0
    epsilon: float = 0.1
    normalize: bool = False


def matching_costs(
    layer: Layer, frame: int, masks: list[Array], labels: list[int], weights: Weights
) -> Array:
    """Costs ``[Q, G]`` of one frame's pairs, at the size of the mask logits."""
    queries, height, width = layer.mask_logits.shape[1:]
    cost = np.zeros((queries, len(masks)))
    for query, (index, mask) in itertools.product(range(queries), enumerate(masks)):
        small = area_average(mask, height, width)
        logits = layer.mask_logits[frame, query]
        probability = softmax(layer.class_logits[frame, query])[labels[index]]
        cost[query, index] = -weights.class_weight * probability
        cost[query, index] += weights.dice * dice(logits, small)
        if weights.bce:
            soft = -sum(
                g * math.log(sigmoid(x)) + (1 - g) * math.log(1 - sigmoid(x))
                for x, g in zip(logits.ravel().tolist(), small.ravel().tolist(), strict=True)
            )
            cost[query, index] += weights.bce * soft / small.size
    return cost


def objective(
    layers: list[Layer],
    masks: list[list[Array]],
    labels: list[list[int]],
    projection: Array,
    deltas: tuple[float, float],
    weights: Weights,
) -> dict[str, float]:
    """All weighted terms of Eq. (13).

    Args:
        layers: the last decoder layer last.
        masks: for each of N frames its true masks ``[H, W]`` of {0, 1}.
        labels: their classes.
        projection: of AQDL, ``[C, C]``.
        deltas: delta_1 and delta_2.
        weights: settings.
    """
    no_object = layers[0].class_logits.shape[-1] - 1
    class_weights = [1.0] * no_object + [weights.no_object]
    count = max(sum(len(frame) for frame in masks), 1)
    result = {}
    for number, layer in enumerate(layers):
        class_total = dice_total = bce_total = 0.0
        for frame, (truths, names) in enumerate(zip(masks, labels, strict=True)):
            wanted = [no_object] * layer.class_logits.shape[1]
            pairs: list[tuple[int, int]] = []
            if truths:
                pairs = best_assignment(matching_costs(layer, frame, truths, names, weights))[1]
            for query, index in pairs:
                wanted[query] = names[index]
                truth = truths[index]
                logits = bilinear(layer.mask_logits[frame, query], *truth.shape)
                dice_total += dice(logits, truth)
                bce_total += binary_cross_entropy(logits, truth)
            for row, label in zip(layer.class_logits[frame], wanted, strict=True):
                class_total += focal(row.tolist(), label, class_weights, weights.gamma)
        suffix = "" if number == len(layers) - 1 else f"_{number}"
        result["loss_class" + suffix] = weights.class_weight * class_total / count
        result["loss_dice" + suffix] = weights.dice * dice_total / count
        if weights.bce:
            result["loss_mask_bce" + suffix] = weights.bce * bce_total / count
    last = layers[-1]
    confidence = np.array(
        [[max(softmax(row.tolist())[:-1]) for row in frame] for frame in last.class_logits]
    )
    result["loss_aqdl"] = weights.aqdl * query_distance_loss(
        last.queries,
        confidence > deltas[0],
        projection,
        weights.distance,
        weights.epsilon,
        weights.normalize,
    )
    result["loss_aqml"] = weights.aqml * query_mask_loss(last.mask_logits, confidence > deltas[1])
    return result
