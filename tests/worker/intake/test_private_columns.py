"""Private-looking columns are warned of without a value; the usual columns of cells are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import sparse

from tests.worker.intake.conftest import Checked
from worker.intake.columns import Column
from worker.intake.private_columns import private_kind

USUAL_COLUMNS = """
donor_id donor sample sample_id sample_name batch library library_id library_name lane run run_id
development_stage development_stage_ontology_term_id cell_id barcode barcodes age sex
self_reported_ethnicity self_reported_ethnicity_ontology_term_id ethnicity organism assay
assay_ontology_term_id cell_type cell_type_ontology_term_id cell_type_name disease
disease_ontology_term_id is_primary_data suspension_type tissue tissue_type tissue_ontology_term_id
observation_joinid sex_ontology_term_id organism_ontology_term_id n_genes n_genes_by_counts
n_counts total_counts total_counts_mt pct_counts_mt percent.mt nCount_RNA nFeature_RNA orig.ident
seurat_clusters leiden louvain phase S_score G2M_score doublet_score predicted_doublet patient
patients subject subject_id individual participant condition treatment treatment_date stim status
study project project_name dataset dataset_id site center institute protocol chemistry platform
sequencing_date collection_date processing_date date capture_date run_date time timepoint day weeks
gestational_age post_natal_day smoking_status bmi BMI height weight race cause_of_death region
location lab author authors_cell_type cluster_name clinical_stage clinical_status stage grade tumor
replicate rep plate well pool hash_id hashtag guide gene_name feature_name reads mapped_reads
n_cells size_factor sizeFactor cell_line strain genotype background compartment layer dissection
age_years Age_group pmi rin celltype.l1 name cell_name index file filename source_name
title accession GEO_accession
"""
"""Of CELLxGENE's schema, and what scanpy, Seurat and laboratories write."""


def text(name: str, *values: str, each: int = 10) -> Column:
    return Column(name, pa.array([value for value in values for _ in range(each)]))


@pytest.mark.parametrize("name", USUAL_COLUMNS.split())
def test_usual_columns_are_not_private_by_name(name: str) -> None:
    assert private_kind(text(name, "a", "b")) is None


@pytest.mark.parametrize(
    "column",
    [
        text("donor_id", "D1", "D2"),
        text("donor_id", "H18.30.002", "621B"),
        text("donor", "Donor One", "Donor Two"),
        text("sample", "GSM3711757", "GSM3711758"),
        text("batch", "20210504", "20210611"),
        text("run", "190412_A00228_0287", "190413_A00228_0288"),
        text("sequencing_date", "2021-05-04", "2019-11-30"),
        text("collection_date", "04.05.2021", "30.11.2019"),
        text("library_id", "10234567", "10234568"),
        text("tissue", "Bone Marrow", "Lymph Node"),
        text("cell_type", "Natural Killer", "Dendritic Cell"),
        text("barcode", "AAACCTGAGAAACCAT-1", "AAACCTGAGAAACCGC-1"),
        text("assay", "10x 3' v3", "Smart-seq2"),
        text("age", "45", "61"),
        text("study", "PRJNA1234567", "SRP1234567"),
        text("tissue_ontology_term_id", "UBERON:0002048", "UBERON:0000178"),
        Column("total_counts", pa.array(np.arange(1_234_567, 1_234_667))),
        Column("n_counts", pa.array([1_234_567] * 50 + [7] * 50)),
        Column("score", pa.array([19560101.5] * 10)),
        Column("cell_id", pa.array([str(10_000_000 + i) for i in range(100)])),
        Column("empty", pa.array([None] * 5, pa.string())),
        Column("flag", pa.array([True, False])),
    ],
    ids=lambda column: f"{column.name}",
)
def test_usual_values_are_not_private(column: Column) -> None:
    assert private_kind(column) is None


NAMES = {
    "names of people": "patient_name patientName first_name lastname last_name surname full_name "
    "Vorname Nachname Patientenname nom_de_famille prénom nom_patient apellidos nombre_paciente "
    "donor_name initials",
    "record numbers": "MRN mrn patient_id PatientID patient_no Patientennummer Fallnummer "
    "medical_record_number hospital hospital_id Krankenhaus Klinik hôpital numero_dossier "
    "historia_clinica NHS_number ssn insurance_number Versichertennummer id_paciente",
    "dates of birth": "dob DOB date_of_birth birth_date birthDate Geburtsdatum geb_datum "
    "date_naissance date_de_naissance fecha_nacimiento fecha_de_nacimiento year_of_birth "
    "patient_dob",
    "e-mail addresses": "email e-mail E_Mail contact_email courriel correo_electronico",
    "telephone numbers": "phone phone_number telephone Telefon Telefonnummer téléphone teléfono",
    "addresses": "address home_address Adresse Anschrift Straße PLZ postcode zip_code dirección "
    "code_postal",
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for kind, names in NAMES.items() for name in names.split()]
)
def test_columns_are_private_by_name_in_four_languages(name: str, kind: str) -> None:
    assert private_kind(text(name, "a", "b")) == kind


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (text("donor", "Anna Müller", "Jean Dupont", "José García"), "names of people"),
        (text("patient", "Müller, Anna", "Dupont, Jean"), "names of people"),
        (text("sample_info", "1956-11-03", "1961-02-17"), "dates of birth"),
        (text("x", "03.11.1956", "17.2.1961"), "dates of birth"),
        (text("x", "3 Nov 1956", "17 Feb 1961"), "dates of birth"),
        (text("meta", "19561103", "19610217"), "dates of birth"),
        (Column("meta", pa.array([19561103] * 9 + [19610217] * 9)), "dates of birth"),
        (text("contact", "a.b@example.org", "unknown"), "e-mail addresses"),
        (text("contact", "+49 89 1234567", "+33 1 23 45 67 89"), "telephone numbers"),
        (text("contact", "089/1234567", "030/7654321"), "telephone numbers"),
        (text("id", "004512387", "004598231"), "record numbers"),
        (text("key", "MRN0045123", "MRN0045982"), "record numbers"),
        (Column("external", pa.array([4512387] * 9 + [4598231] * 9)), "record numbers"),
    ],
    ids=lambda value: value.name if isinstance(value, Column) else None,
)
def test_columns_are_private_by_value(column: Column, kind: str) -> None:
    assert private_kind(column) == kind
    coded = Column(column.name, column.values.dictionary_encode())
    assert private_kind(coded) == kind


def test_numbers_of_a_donors_several_things_are_not_a_record_of_the_donor() -> None:
    donors = pa.array(["D1", "D1", "D2", "D2"] * 5)
    of_donor = Column("id", pa.array(["10045123", "10045123", "10045982", "10045982"] * 5))
    of_sample = Column("id", pa.array(["10045123", "10045124", "10045982", "10045983"] * 5))
    assert private_kind(of_donor, donors) == "record numbers"
    assert private_kind(of_sample, donors) is None


CANARIES = ("Anna Canary", "1956-11-03", "canary@example.org", "CANARY-77")


def private_file(path: Path) -> Path:
    n = 60
    obs = pd.DataFrame(
        {
            "sample": ["s1", "s2"] * (n // 2),
            "patient_name": [CANARIES[0]] * n,
            "info": pd.Categorical([CANARIES[1]] * n),
            "contact": [CANARIES[2]] * n,
            "mrn": [CANARIES[3]] * n,
            "stage": ["adult"] * n,
        },
        index=[f"cell{i}" for i in range(n)],
    )
    counts = np.random.default_rng(0).poisson(2, (n, 20)).astype(np.float32) + 1
    adata = anndata.AnnData(sparse.csr_matrix(counts), obs=obs)
    adata.var_names = [f"GENE{number}" for number in range(adata.n_vars)]
    adata.uns["note"] = CANARIES[3]
    adata.write_h5ad(path)
    return path


def test_no_private_value_is_in_the_report(check: Callable[..., Checked], tmp_path: Path) -> None:
    report, query = check(private_file(tmp_path / "x.h5ad"))
    told = {each["pointer"]: each for each in report["problems"] if each["severity"] == "warning"}
    private = ["/obs/patient_name", "/obs/info", "/obs/contact", "/obs/mrn"]
    assert [told[pointer]["code"] for pointer in private] == ["private-column"] * 4
    assert [each for each in told if each not in private] == []
    written = json.dumps(report)
    assert [canary for canary in CANARIES if canary in written] == []
    columns = {column["name"]: column for column in report["columns"]}
    assert columns["mrn"] == {
        "name": "mrn",
        "kind": columns["mrn"]["kind"],
        "n_values": 1,
        "missing": 0,
        "private": True,
    }
    assert "values" in columns["stage"]
    assert list(query.obs()["mrn"]) == [CANARIES[3]] * 60  # kept: only all of it was asked for


def test_private_columns_are_not_told_by_other_findings(
    check: Callable[..., Checked], tmp_path: Path
) -> None:
    path = private_file(tmp_path / "x.h5ad")
    design = {"batch_key": ["mrn", "sample"], "condition_key": "patient_name"}
    report, _ = check(path, options=design | {"control_values": ["nobody"]})
    codes = [each["code"] for each in report["problems"]]
    assert "unknown-control-value" in codes
    written = json.dumps(report)
    assert [canary for canary in CANARIES if canary in written] == []


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, ["sample", "patient_name", "info", "contact", "mrn", "stage"]),
        ({"obs_policy": "needed"}, []),
        ({"obs_policy": "needed", "batch_key": ["sample"], "obs_keep": ["stage"]}, None),
        ({"obs_policy": "listed", "sample_key": "sample", "obs_keep": ["stage"]}, None),
        ({"obs_policy": "needed", "labels_key": "stage", "condition_key": "sample"}, None),
        ({"obs_policy": "listed", "size_factor_key": "sample", "obs_keep": ["stage"]}, None),
    ],
)
def test_only_the_columns_of_the_policy_are_kept(
    check: Callable[..., Checked], tmp_path: Path, options: dict[str, Any], kept: list[str] | None
) -> None:
    expected = ["sample", "stage"] if kept is None else kept
    report, query = check(private_file(tmp_path / "x.h5ad"), options=options)
    assert list(query.obs().columns) == expected
    assert [column["name"] for column in report["columns"]] == expected
    every = ("sample", "patient_name", "info", "contact", "mrn", "stage")
    left_out = [name for name in every if name not in expected]
    assert report["dropped"]["obs_policy"] == left_out
    stored = (tmp_path / "canonical/obs.arrow").read_bytes()
    assert (CANARIES[0].encode() in stored) == (kept == expected and not options)
    notes = [each for each in report["problems"] if each["code"] == "columns-not-kept"]
    assert len(notes) == (1 if left_out else 0)
    assert all(name in notes[0]["detail"] for name in left_out)
