"""Fetching a model from the Hugging Face Hub: plain files; nothing is loaded or run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from app.problems import HubUnreachable, MalformedRequest

SCHEME = "hf://"
ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+))?")
WANTED = ("*model.pt", "*model_params.pt", "*var_names.csv", "*attr.pkl")
CELLS = ("*adata.h5ad", "*mdata.h5mu")
"""By far the largest file of most repositories."""
TOLD = ("README.md", "_scvi_required_metadata.json")


@dataclass(frozen=True)
class Fetched:
    """A folder of files, and the commit that they are of."""

    folder: Path
    repository: str
    revision: str


def is_hub_address(path: str) -> bool:
    return path.startswith(SCHEME)


def fetch(address: str, folder: Path, *, cells: bool = True) -> Fetched:
    """Download the files of a save that `hf://owner/name[@revision]` names into a folder.

    `cells` says whether those that were saved beside the model are wanted too.

    Raises:
        MalformedRequest: the address is none, or huggingface_hub is not installed.
        HubUnreachable: the hub does not answer, or has no such model.
    """
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise MalformedRequest(
            f"{address!r} is no address of a model.",
            fix="Write hf://owner/name or hf://owner/name@revision.",
        )
    try:
        # Imported here because it is optional, and no other part of Cellgraft leaves the house.
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MalformedRequest(
            "huggingface_hub is not installed, and Cellgraft fetches hf:// models with it.",
            fix="Install it (pip install 'cellgraft[hub]'), or download the model's folder "
            "yourself and import that.",
        ) from error
    repository, revision = found["repo"], found["revision"]
    try:
        told = HfApi().model_info(repository, revision=revision)
        commit = told.sha or revision or "main"
        place = HfApi().snapshot_download(
            repository,
            revision=commit,
            local_dir=folder,
            allow_patterns=[*WANTED, *TOLD, *(CELLS if cells else ())],
        )
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise HubUnreachable(
            f"{address} cannot be fetched: {said}",
            fix="Check the name and the revision, and that this machine reaches the hub "
            "(HF_ENDPOINT, HF_TOKEN); or download the model's folder elsewhere and import that.",
        ) from error
    return Fetched(Path(place), repository, commit)
