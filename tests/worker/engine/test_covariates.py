"""Query columns become codes: names, collisions, absent values, what the reference needs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from app.problems import (
    TooManyBatches,
    UnknownBatchColumn,
    UnknownCovariate,
    UnknownLabelsColumn,
)
from models_store.manifest import Covariate, LabelLevel, Manifest
from tests.worker.engine.simulated import Reference
from worker.batches import LONE_BATCH, QUERY_SUFFIX
from worker.covariates import design_query
from worker.obs import MISSING


@pytest.fixture
def manifest(recommended: Reference) -> Manifest:
    return recommended.manifest


def obs(**columns: list) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_new_batches_follow_the_reference_in_sorted_order(manifest: Manifest) -> None:
    design = design_query(obs(b=["z", "x", "z"]), manifest, batch_key=["b"])
    assert design.new_categories == (("x", "z"),)
    assert list(design.codes[0]) == [3, 2, 3]


def test_no_batch_key_is_one_new_batch(manifest: Manifest) -> None:
    design = design_query(obs(a=[1, 2]), manifest, batch_key=None)
    assert design.new_categories == ((LONE_BATCH,),)
    assert list(design.codes[0]) == [2, 2]


def test_several_columns_are_joined(manifest: Manifest) -> None:
    design = design_query(obs(d=["p", "q"], n=[1, 2]), manifest, batch_key=["d", "n"])
    assert design.new_categories == (("p_1", "q_2"),)


def test_combinations_whose_names_run_together_stay_apart(manifest: Manifest) -> None:
    table = obs(d=["a_b", "a", "a"], n=["c", "b_c", "c"])
    design = design_query(table, manifest, batch_key=["d", "n"])
    assert design.new_categories == (('["a", "b_c"]', '["a", "c"]', '["a_b", "c"]'),)
    assert list(design.codes[0]) == [4, 2, 3]


def test_numbers_booleans_and_absent_values_become_names(manifest: Manifest) -> None:
    table = pd.DataFrame({"n": pd.array([1, None, 2], dtype="Int64"), "f": [True, False, True]})
    assert design_query(table, manifest, batch_key=["n"]).new_categories == (("1", "2", MISSING),)
    assert design_query(table, manifest, batch_key=["f"]).new_categories == (("False", "True"),)
    categorical = pd.DataFrame({"c": pd.Categorical(["a", None, "b"])})
    assert design_query(categorical, manifest, batch_key=["c"]).n_new == (3,)


def test_whole_numbers_are_the_same_batch_in_any_type(manifest: Manifest) -> None:
    expected = (("1", "2", "2.5"),)
    for values in ([1.0, 2.0, 2.5], pd.Categorical([1.0, 2.0, 2.5])):
        design = design_query(pd.DataFrame({"n": values}), manifest, batch_key=["n"])
        assert design.new_categories == expected
    for values in ([1, 2], [1.0, 2.0]):
        design = design_query(pd.DataFrame({"n": values}), manifest, batch_key=["n"])
        assert design.new_categories == (("1", "2"),)


def test_an_identifier_is_no_batch(manifest: Manifest) -> None:
    table = obs(barcode=[f"c{i}" for i in range(120)], donor=["a"] * 120)
    with pytest.raises(TooManyBatches, match="120 categories for 120 cells") as caught:
        design_query(table, manifest, batch_key=["barcode"])
    assert caught.value.errors[0]["pointer"] == "/obs/barcode"
    with pytest.raises(TooManyBatches):
        design_query(table, manifest, batch_key=["donor", "barcode"])
    half = obs(plate=[f"p{i // 2}" for i in range(120)])
    assert design_query(half, manifest, batch_key=["plate"]).n_new == (60,)
    few = obs(sample=[f"s{i}" for i in range(50)])
    assert design_query(few, manifest, batch_key=["sample"]).n_new == (50,)


def test_doubts_are_told_of_new_batches_alone(manifest: Manifest) -> None:
    table = obs(b=["ref-a"] * 5 + ["new"] * 20)
    reused = design_query(table, manifest, batch_key=["b"], reuse_batches=True)
    assert reused.warnings == ()
    (warning,) = design_query(table, manifest, batch_key=["b"]).warnings
    assert (warning["code"], "ref-a-query (5)" in warning["detail"]) == ("small-batches", True)
    joined = obs(b=["x"] * 40, d=["y"] * 39 + [None])
    codes = [each["code"] for each in design_query(joined, manifest, batch_key=["b", "d"]).warnings]
    assert codes == ["missing-batch", "small-batches"]


def test_a_batch_called_like_a_reference_batch_is_new_all_the_same(manifest: Manifest) -> None:
    table = obs(b=["ref-a", "ref-a-query", "new"])
    design = design_query(table, manifest, batch_key=["b"])
    renamed = "ref-a" + QUERY_SUFFIX * 2
    assert design.renamed == {"ref-a": renamed}
    assert set(design.new_categories[0]) == {renamed, "ref-a-query", "new"}
    assert (design.codes[0] >= 2).all()


def test_reuse_takes_the_frozen_row(manifest: Manifest) -> None:
    design = design_query(obs(b=["ref-b", "new"]), manifest, batch_key=["b"], reuse_batches=True)
    assert list(design.codes[0]) == [1, 2]
    assert [group.name for group in design.groups(2)] == ["new"]


def test_unknown_columns_are_told_with_what_there_is(manifest: Manifest) -> None:
    with pytest.raises(UnknownBatchColumn, match="donor") as caught:
        design_query(obs(sample=["a"]), manifest, batch_key=["donor"])
    assert "sample" in caught.value.detail
    assert caught.value.errors[0]["pointer"] == "/obs/donor"
    with pytest.raises(UnknownLabelsColumn):
        design_query(obs(sample=["a"]), manifest, batch_key=None, labels_key="type")


def _needs(manifest: Manifest, **changes: object) -> Manifest:
    return manifest.model_copy(update=changes)


def test_what_the_reference_needs(manifest: Manifest) -> None:
    plate = _needs(manifest, extra_covariates=(Covariate(key="plate", categories=("p1", "p2")),))
    with pytest.raises(UnknownCovariate, match="plate") as caught:
        design_query(obs(b=["x"]), plate, batch_key=["b"])
    assert "p1, p2" in caught.value.fix
    known = design_query(obs(b=["x", "y"], plate=["p2", "p1"]), plate, batch_key=["b"])
    assert list(known.codes[1]) == [1, 0]
    assert not known.is_coupled
    new = design_query(obs(b=["x", "y"], plate=["p2", "p9"]), plate, batch_key=["b"])
    assert new.is_coupled
    (group,) = new.groups(2)
    assert group.n_new == (2, 1)
    age = _needs(manifest, continuous_covariates=("age",))
    with pytest.raises(UnknownCovariate, match="age"):
        design_query(obs(b=["x"], age=["old"]), age, batch_key=["b"])
    assert design_query(obs(age=[1.5]), age, batch_key=None).continuous == np.float32(1.5)
    with pytest.raises(UnknownCovariate, match="age"):
        design_query(obs(age=[1e39]), age, batch_key=None)  # finite, but not as float32
    size = _needs(manifest, size_factor_key="size")
    with pytest.raises(UnknownCovariate, match="above zero"):
        design_query(obs(size=[1.0, 0.0]), size, batch_key=None)
    mine = design_query(obs(mine=[1.0, 2.0]), size, batch_key=None, size_factor_key="mine")
    assert list(mine.size_factor) == [1.0, 2.0]
    assert design_query(obs(m=[1.0]), manifest, batch_key=None).size_factor is None


def test_depths_that_are_given_stand_beside_the_size_factors(manifest: Manifest) -> None:
    """A cell without genes has size factor 0, one without regions depth 0."""
    both = _needs(manifest, kind="multivi", size_factor_key="size", depth_key="depth")
    found = design_query(obs(size=[0.0, 2.0], depth=[1.0, 0.0]), both, batch_key=None)
    assert found.size_factor.tolist() == [[0.0, 1.0], [2.0, 0.0]]
    with pytest.raises(UnknownCovariate, match="zero or above"):
        design_query(obs(size=[-1.0], depth=[0.5]), both, batch_key=None)
    with pytest.raises(UnknownCovariate, match="between 0 and 1") as refused:
        design_query(obs(size=[1.0], depth=[1.5]), both, batch_key=None)
    assert "at most 1" in refused.value.fix
    with pytest.raises(UnknownCovariate, match=r"obs\['depth'\]"):
        design_query(obs(size=[1.0]), both, batch_key=None)


def test_unknown_labels_share_the_last_code(manifest: Manifest) -> None:
    by_label = _needs(
        manifest,
        labels=(LabelLevel(key="cell_type", categories=("alpha", "beta")),),
        architecture=manifest.architecture.model_copy(update={"dispersion": "gene-label"}),
    )
    design = design_query(obs(t=["beta", "gamma"]), by_label, batch_key=None, labels_key="t")
    assert list(design.labels) == [1, 2]
    assert list(design_query(obs(t=["beta"]), by_label, batch_key=None).labels) == [2]
