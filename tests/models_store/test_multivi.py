"""MULTIVI: gradients against autograd, missing modalities, and independence of company."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from models_store import head_gradients, modalities
from models_store.cells import Cells, Noise, Posterior, select_cells
from models_store.encoding import encode, join_projections, project_block
from models_store.kinds import step_gradients
from models_store.manifest import Architecture
from models_store.modalities import mix_posteriors, modality_penalty, split_modalities
from models_store.multivi import MULTIVI
from models_store.multivi_gradients import MultiGradients
from models_store.surgery import graft, query_parameters

SIZES = {"n_genes": 6, "n_regions": 7, "n_proteins": 3, "n_hidden": 8, "n_latent": 3}
CONFIGURATIONS = {
    "trimodal": {},
    "scvi-tools' own defaults": {
        "likelihood": "zinb",
        "encode_covariates": False,
        "deeply_inject_covariates": False,
    },
    "genes and regions": {"n_proteins": 0, "likelihood": "zinb", "n_layers_decoder": 1},
    "genes alone": {"n_regions": 0, "n_proteins": 0, "likelihood": "poisson"},
    "regions alone": {"n_genes": 0, "n_proteins": 0, "region_factors": False},
    "universal, MMD": {"modality_weights": "universal", "modality_penalty": "MMD"},
    "exact penalty": {"modality_penalty": "exact Jeffreys"},
    "no penalty, batch norm": {
        "modality_penalty": "None",
        "batch_norm": "both",
        "layer_norm": "none",
    },
    "dispersions of each batch": {
        "dispersion": "gene-batch",
        "protein_dispersion": "protein-batch",
    },
    "gene-cell, ln": {"dispersion": "gene-cell", "latent_distribution": "ln"},
    "size factor": {"library": "size_factor", "likelihood": "nb"},
    "size factor, depth given": {"library": "size_factor", "depth_factor": True},
}
N_NEW = (2, 1)


def network(name: str, *, seed: int = 0) -> MULTIVI:
    torch.manual_seed(seed)
    made = MULTIVI(
        Architecture.model_validate(SIZES | CONFIGURATIONS[name]),
        n_categories=(3, 2),
        n_continuous=1,
    )
    for key, buffer in made.named_buffers():
        if "running" in key:
            buffer.uniform_(0.5, 1.5)
    with torch.no_grad():
        made.modality_weights += (
            torch.tensor([0.3, -0.4, 0.2]) * made.modality_weights.requires_grad
        )
        if made.region_factors is not None:
            made.region_factors.normal_()
    return made.eval()


def cells(of: MULTIVI, n: int = 16, *, n_categories: tuple[int, ...] = (3, 2)) -> Cells:
    """Some have every modality, some lack one or two, the last has no count at all."""
    generator = torch.Generator().manual_seed(1)
    x = torch.poisson(torch.full((n, of.architecture.n_features), 1.5), generator=generator) + 0.0
    parts = [part.clone() for part in split_modalities(x, of.architecture)]
    for k, part in enumerate(parts):
        part[k : n - 6 : 4] = 0
        part[-1] = 0
    return Cells(
        x=torch.cat(parts, dim=-1),
        codes=tuple(torch.randint(k, (n,), generator=generator) for k in n_categories),
        continuous=torch.randn(n, 1, generator=generator),
        size_factor=torch.rand(n, 2, generator=generator),
    )


def in_double(them: Cells) -> Cells:
    assert them.continuous is not None
    assert them.size_factor is not None
    return dataclasses.replace(
        them,
        x=them.x.double(),
        continuous=them.continuous.double(),
        size_factor=them.size_factor.double(),
    )


def moved(name: str) -> MULTIVI:
    """A grafted network whose query rows have left their start."""
    grafted = graft(network(name).double(), N_NEW)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for rows in query_parameters(grafted).values():
            rows += 0.5 * torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
    return grafted


def noise_in_double(grafted: MULTIVI, n: int) -> Noise:
    noise = grafted.draw_noise(n, torch.Generator().manual_seed(3))
    background = None if noise.background is None else noise.background.double()
    return Noise(noise.z.double(), background=background)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_are_those_of_autograd(
    name: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_gradients, "SMALLEST_PART", 20)
    grafted = moved(name)
    them = in_double(cells(grafted, n_categories=(5, 3)))
    noise, projection = noise_in_double(grafted, len(them.x)), grafted.project(them)
    parameters = query_parameters(grafted)
    terms = grafted.loss_terms(them, noise, projection)
    exact = torch.autograd.grad(
        terms.loss(0.3), list(parameters.values()), materialize_grads=True, retain_graph=True
    )
    slope = grafted.training_loss(them, noise, 0.3, projection=projection)
    quick = torch.autograd.grad(slope, list(parameters.values()), materialize_grads=True)
    gradients = MultiGradients(grafted, them, projection, threads=threads)
    found = gradients(torch.arange(len(them.x)), noise, 0.3)
    assert any(float(theirs.abs().max()) > 0 for theirs in exact)
    for (key, parameter), theirs, others in zip(parameters.items(), exact, quick, strict=True):
        for ours in (found[parameter], others):
            error = float((ours - theirs).abs().max())
            assert error <= 1e-9 * float(theirs.abs().max()) + 1e-12, (key, error)


@pytest.mark.parametrize("name", ["trimodal", "genes and regions"])
def test_the_kernels_agree_with_the_definition(name: str) -> None:
    """In float32 the heads are fused."""
    grafted = moved(name).float()
    them = cells(grafted, n_categories=(5, 3))
    noise = grafted.draw_noise(len(them.x), torch.Generator().manual_seed(3))
    projection = grafted.project(them)
    parameters = query_parameters(grafted)
    loss = grafted.loss_terms(them, noise, projection).loss(1.0)
    exact = torch.autograd.grad(loss, list(parameters.values()))
    found = step_gradients(grafted, them, projection, threads=1, minibatch_size=16)(
        torch.arange(len(them.x)), noise, 1.0
    )
    for (key, parameter), theirs in zip(parameters.items(), exact, strict=True):
        error = float((found[parameter] - theirs).abs().max())
        assert error <= 1e-4 * float(theirs.abs().max()), (key, error)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@torch.no_grad()
def test_a_latent_is_the_same_bytes_in_any_company(name: str) -> None:
    grafted = moved(name).float()
    them = cells(grafted, 20, n_categories=(5, 3))
    codes = them.codes
    whole = encode(grafted, project_block(grafted, them), codes)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(5))
    mixed = select_cells(them, order)
    permuted = encode(grafted, project_block(grafted, mixed), mixed.codes)
    assert torch.equal(permuted.mean, whole.mean[order])
    assert torch.equal(permuted.variance, whole.variance[order])
    alone = [select_cells(them, torch.tensor([i])) for i in (3, 11)]
    joined = join_projections([project_block(grafted, one) for one in alone])
    found = encode(grafted, joined, tuple(code[[3, 11]] for code in codes))
    assert torch.equal(found.mean, whole.mean[[3, 11]])
    assert torch.isfinite(whole.mean).all()
    assert torch.isfinite(whole.variance).all()


@torch.no_grad()
def test_a_modality_that_a_cell_lacks_does_not_count() -> None:
    made = network("trimodal")
    them = cells(made)
    projection = made.project(them)
    each = made.posteriors(projection, them.codes)
    present = projection.log_library
    assert set(map(tuple, present.tolist())) >= {(1, 1, 1), (0, 1, 1), (1, 0, 1), (0, 0, 0)}
    q_z = made.posterior(projection, them.codes)
    for i, has in enumerate(present):
        if has.sum() == 1:
            (k,) = torch.nonzero(has).squeeze(1)
            torch.testing.assert_close(q_z.m[i], each[k].m[i])
            torch.testing.assert_close(q_z.v[i], each[k].v[i])
    noise = made.draw_noise(len(them.x), torch.Generator().manual_seed(0))
    assert float(made.loss_terms(them, noise).reconstruction[-1]) == 0.0
    assert float(made.loss_terms(them, noise).penalty[-1]) == 0.0


def test_reference_rows_and_latents_do_not_move() -> None:
    made = network("trimodal")
    them = cells(made)
    before = encode(made, project_block(made, them), them.codes)
    state = {name: values.clone() for name, values in made.state_dict().items()}
    grafted = graft(made, N_NEW)
    optimiser = torch.optim.Adam(query_parameters(grafted).values(), lr=0.1)
    new = dataclasses.replace(them, codes=(torch.full((16,), 3), them.codes[1]))
    gradients = MultiGradients(grafted, new, grafted.project(new))
    for step in range(3):
        noise = grafted.draw_noise(16, torch.Generator().manual_seed(step))
        for parameter, g in gradients(torch.arange(16), noise, 1.0).items():
            parameter.grad = g
        optimiser.step()
    after = encode(grafted, project_block(grafted, them), them.codes)
    assert torch.equal(after.mean, before.mean)
    assert torch.equal(after.variance, before.variance)
    for name, values in made.state_dict().items():
        assert torch.equal(values, state[name]), name
    trained = encode(grafted, project_block(grafted, new), new.codes)
    assert not torch.allclose(trained.mean, before.mean)


@torch.no_grad()
def test_outputs_add_up() -> None:
    made = network("trimodal")
    z, codes = torch.randn(5, 3), (torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 1, 0, 1, 0]))
    shares = made.gene_shares(z, codes)
    torch.testing.assert_close(shares.sum(-1), torch.ones(5))
    torch.testing.assert_close(made.expected_shares(z, codes).sum(-1), torch.ones(5))
    torch.testing.assert_close(made.expected_shares(z, codes)[:, :6], shares / 3)
    open_ = made.accessibility(z, codes)
    assert open_.shape == (5, 7)
    assert ((open_ > 0) & (open_ < 1)).all()
    foreground = made.protein_foreground(z, codes)
    assert foreground.shape == (5, 3)
    other = (torch.zeros(5, dtype=torch.long), codes[1])
    assert not torch.allclose(made.protein_foreground(z, other), foreground)


def test_the_penalty_of_equal_posteriors_is_zero_and_grows_with_distance() -> None:
    def posterior(shift: float, scale: float) -> Posterior:
        return Posterior(torch.zeros(2, 3) + shift, torch.ones(2, 3) * scale)

    both = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    for kind in ("Jeffreys", "exact Jeffreys", "MMD"):
        same = (posterior(0, 1), posterior(0, 1), posterior(0, 1))
        assert modality_penalty(kind, same, both).tolist() == [0, 0]
    near = (posterior(0, 1), posterior(1, 4), posterior(5, 1))
    # Variances 1 and √4 = 2: ½ (1/2 + 2 - 2 + 1 · (1 + 1/2)) in each of three dimensions.
    assert float(modality_penalty("Jeffreys", near, both)[0]) == pytest.approx(3.0)
    # Variances 1 and 4: ½ (1/4 + 4 - 2 + 1 · (1 + 1/4)) in each of three dimensions.
    assert float(modality_penalty("exact Jeffreys", near, both)[0]) == pytest.approx(5.25)
    assert float(modality_penalty("MMD", near, both)[0]) == pytest.approx(3**0.5)
    assert modality_penalty("None", near, both).tolist() == [0, 0]


def test_variances_are_mixed_by_the_root_of_the_shares() -> None:
    each = [Posterior(torch.full((1, 1), float(k)), torch.ones(1, 1)) for k in range(3)]
    present = torch.tensor([[1.0, 1.0, 0.0]])
    mixed = mix_posteriors(each, torch.tensor([0.0, 0.0, 9.0]), present)
    assert float(mixed.m) == pytest.approx(0.5)
    assert float(mixed.v) == pytest.approx(2 * 0.5**0.5)
    nothing: Tensor = modalities.modality_shares(torch.ones(3), torch.zeros(1, 3))
    assert nothing.tolist()[0] == pytest.approx([0.25] * 3)


@pytest.mark.parametrize(
    "options",
    [{"dispersion": "gene-label"}, {"likelihood": "normal"}, {"library": "latent"}],
)
def test_what_it_has_not(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="MULTIVI"):
        MULTIVI(Architecture.model_validate(SIZES | options), n_categories=(2,))
