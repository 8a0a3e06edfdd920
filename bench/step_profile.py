"""Where a training step spends its time: each part by itself, on one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from models_store.cells import select_cells
from models_store.head_gradients import FusedHead, HeadInput
from models_store.kernels import Logits, fused_gradient
from models_store.query_gradients import QueryGradients
from models_store.row_sums import RowSums
from models_store.scvi import SCVI
from models_store.surgery import graft, query_parameters
from worker.fitting import TrainingCells

REPEATS = 60


@torch.no_grad()
def of(network: SCVI, group: TrainingCells, size: int) -> dict[str, float | str]:
    """Processor microseconds of the step and its parts, and the largest part beside the products.

    What the parts leave of the whole is the cache that each takes from the others, and Python.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        parts = _parts(network, group, size)
        found = {name: round(_microseconds(part), 1) for name, part in parts.items()}
    finally:
        torch.set_num_threads(threads)
    whole = found.pop("whole step")
    rest = round(whole - sum(found.values()), 1)
    terms = {name: spent for name, spent in found.items() if name != "products of the head"}
    return {"whole step": whole, **found, "rest": rest, "next": max(terms, key=lambda n: terms[n])}


def _parts(network: SCVI, group: TrainingCells, size: int) -> dict[str, Callable[[], object]]:
    cvae = graft(network, [1])
    generator = torch.Generator().manual_seed(0)
    gradients = QueryGradients(cvae, group.cells, group.projection)
    rows = iter(torch.randint(len(group), (100_000, 1), generator=generator))
    everything = torch.arange(len(group)).repeat(2)

    def some() -> torch.Tensor:
        start = int(next(rows))
        return everything[start : start + size]

    noise = cvae.draw_noise(size, generator)
    parameters = list(query_parameters(cvae).values())
    adam = torch.optim.Adam(parameters, lr=1e-3, eps=0.01, fused=True)

    def step() -> None:
        draws = cvae.draw_noise(size, generator)
        for parameter, g in gradients(some(), draws, 1.0).items():
            parameter.grad = g
        adam.step()

    return {
        "whole step": step,
        "Adam": adam.step,
        "noise": lambda: cvae.draw_noise(size, generator),
        "choosing cells": lambda: (
            select_cells(gradients.cells, some()),
            gradients.projection.rows(some()),
        ),
        **_hidden(gradients, some(), noise.z),
        **_head(gradients, some),
    }


def _hidden(
    gradients: QueryGradients, index: torch.Tensor, noise: torch.Tensor
) -> dict[str, Callable[[], object]]:
    cells, projection = select_cells(gradients.cells, index), gradients.projection.rows(index)
    encoder, decoder, codes = gradients.z_encoder, gradients.decoder, cells.codes
    g = torch.randn(len(index), encoder.W.shape[1])

    def hidden() -> None:
        found = RowSums(1.0)
        z = encoder.draw(projection.z, codes, noise)
        decoder.forward(torch.mm(z, decoder.first), codes, with_bias=False)
        decoder.backward(g, codes, found)
        encoder.backward(noise, 1.0, None, codes, found)

    return {"hidden layers and posterior": hidden}


def _head(
    gradients: QueryGradients, some: Callable[[], torch.Tensor]
) -> dict[str, Callable[[], object]]:
    head = gradients.head.head
    assert isinstance(head, FusedHead)
    index = some()
    cells = select_cells(gradients.cells, index)
    h = torch.relu(torch.randn(len(index), head.weights[0].shape[0]))
    logits = [torch.mm(h, weight) for weight in head.weights]
    outputs = [torch.empty_like(each) for each in logits]
    log_library = gradients.projection.rows(index).log_library

    def products() -> None:
        for weight, layer, output in zip(head.weights, head.layers, outputs, strict=True):
            torch.mm(h, weight, out=output)
            torch.mm(output, layer.weight)

    def kernel() -> None:
        scale, *pi = (
            Logits(each, layer.bias) for each, layer in zip(logits, head.layers, strict=True)
        )
        assert head.theta is not None
        x = head.x.rows(some())
        fused_gradient(x, scale, log_library.exp(), head.theta, pi[0] if pi else None)

    given = HeadInput(h, log_library, cells, index)
    assert head(given).log_theta is None  # the parts below are all of this head
    return {"products of the head": products, "likelihood": kernel}


def _microseconds(part: Callable[[], object]) -> float:
    part()
    spent = []
    for _ in range(REPEATS):
        began = time.thread_time()
        part()
        spent.append(time.thread_time() - began)
    return 1e6 * statistics.median(spent)
