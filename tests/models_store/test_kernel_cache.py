"""Kernels give the same bytes where they were just compiled and where they come from the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import hashlib
import torch
from models_store.block_kernels import Affine, block_backward, block_forward
from models_store.count_rows import CountRows
from models_store.kernels import Logits, fused_gradient, fused_theta_gradient
from models_store.likelihood_kernels import fused_negative_log_likelihood
from models_store.posterior_kernels import fused_draw, fused_draw_gradient
from models_store.region_kernels import fused_region_gradient

generator = torch.Generator().manual_seed(0)
drawn = lambda *shape: torch.randn(*shape, generator=generator)

def told(name, *tensors):
    parts = b"".join(each.detach().numpy().tobytes() for each in tensors)
    print(name, hashlib.sha256(parts).hexdigest())

c, g = 40, 197
x = torch.poisson(drawn(c, g).exp(), generator=generator)
theta, library, zeros = drawn(g).exp(), 500 * drawn(c, 1).exp(), torch.zeros(g)
for name in ("nb", "zinb"):
    scale, pi = Logits(drawn(c, g), zeros), Logits(drawn(c, g), zeros)
    inflation = pi if name == "zinb" else None
    total = fused_gradient(CountRows.of(x), scale, library, theta, inflation)
    told(name, scale.product, pi.product, total)
    mu = torch.softmax(drawn(c, g), -1) * library
    with torch.no_grad():
        told(f"-log {name}", fused_negative_log_likelihood(x, mu, theta, inflation and drawn(c, g)))
told("theta", fused_theta_gradient(x, torch.softmax(drawn(c, g), -1), library, theta))
open_ = Logits(drawn(c, g), zeros)
fused_region_gradient(CountRows.of(x), open_, drawn(c, 1).sigmoid(), drawn(g).sigmoid())
told("regions", open_.product)
y, row = drawn(c, 128), drawn(128)
passed = block_forward(y, row, Affine(row, row), layer_norm=True)
told("block", passed.h, *block_backward(y, passed, Affine(row, row), layer_norm=True))
noise, bias = drawn(c, 10), drawn(20)
z, m, exp = fused_draw(drawn(c, 20), bias, noise, 1e-4)
prior = torch.tensor([[0.0, 1.0]])
told("draw", z, m, exp, fused_draw_gradient(drawn(c, 10), (noise, m, exp), 1.0, prior, 1e-4))
"""


def test_the_first_start_of_a_machine_gives_the_bytes_of_every_other(tmp_path: Path) -> None:
    compiled, loaded = (
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for _ in range(2)
    )
    assert len(compiled) == 8
    assert compiled == loaded
