"""What this service is and what it takes."""

from __future__ import annotations

from typing import Any, get_args

from fastapi import APIRouter

from app.forms import MAX_FILES
from app.routes.access import Reader, Served
from models_store.manifest import MANIFEST_VERSION, Kind
from models_store.recipe import RECIPES

FORMATS = ("h5ad", "h5mu", "10x-h5-v2", "10x-h5-v3", "10x-mtx")
"""As the report of a query calls them."""

router = APIRouter(tags=["service"])


@router.get("/service-info", summary="Versions, limits and protocols")
async def service_info(service: Served, caller: Reader) -> dict[str, Any]:
    return {
        "name": "Cellgraft",
        "version": service.version,
        "api": "v1",
        "you": {"owner": caller.owner, "scopes": sorted(caller.scopes)},
        "limits": {
            "max_upload_bytes": service.uploads.max_bytes,
            "wait_seconds": 60,
            "page_size": 200,
        },
        "uploads": {
            "protocols": ["body", "multipart"],
            "digests": ["sha-256"],
            "resumable": False,
            "formats": list(FORMATS),
            "files": MAX_FILES,
            "obs_policy": service.obs_policy,
        },
        "inputs": ["counts", "continuous"],
        "reference_kinds": list(get_args(Kind)),
        "recipes": sorted(RECIPES),
        "manifest_versions": [MANIFEST_VERSION],
        "links": {"openapi": "/v1/openapi.json"},
    }
