"""Which reference? Ranking the hosted ones for a query."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Response

from app import rankings
from app.keys import Principal
from app.moves import TERMINAL_STATES
from app.problems import QueryRejected, UnknownQuery, UnknownRanking
from app.ranked_references import RankedReference
from app.routes.access import Reader, Served, Submitter
from app.routes.answers import problems
from app.routes.ranking_bodies import RankedItem, RankingBody
from app.routes.shapes import gene_coverage, version_path
from app.routes.waits import Wait, wait_until
from app.service import Service
from app.tables import Job, Query, Ranking, ReferenceVersion
from app.watcher import finished

router = APIRouter(prefix="/queries/{query_id}/ranking", tags=["queries"])


@router.post(
    "",
    status_code=202,
    summary="Rank the references for a query",
    responses=problems(UnknownQuery, QueryRejected),
)
def submit(service: Served, caller: Submitter, query_id: str, response: Response) -> RankingBody:
    """The newest ready version of every reference that you see is compared with a sample of the
    query's cells. A ranking that is under way is answered as it is; one that has ended is made
    anew. A query that is still being checked is waited for."""
    service.database.write(
        partial(
            rankings.submit_ranking,
            bell=service.bell,
            caller=caller,
            query_id=query_id,
            max_attempts=service.max_attempts,
        )
    )
    response.headers["Location"] = ranking_path(query_id)
    return _read(service, caller, query_id)[0]


@router.get(
    "",
    summary="The ranking, best first; `?wait=` polls long",
    responses=problems(UnknownQuery, UnknownRanking),
)
async def ranking(service: Served, caller: Reader, query_id: str, wait: Wait = 0) -> RankingBody:
    """`explained` is 1 where the reference's forward pass explains the cells as well as its own,
    at the same number of counts a cell and on the genes that the query has. `score` is that times
    the share of the reference's expected expression that these genes cover, and sorts the list.
    References that the query has too few genes for come after, those it has none for last."""
    read = partial(_read, service, caller, query_id)
    body, job_id = await to_thread.run_sync(read)
    if wait and not body.terminal:
        await wait_until(service, job_id, finished, wait)
        body, _ = await to_thread.run_sync(read)
    return body


@router.delete(
    "",
    status_code=204,
    summary="Delete the ranking, and end it if it is under way",
    responses=problems(UnknownQuery, UnknownRanking),
)
def delete(service: Served, caller: Submitter, query_id: str) -> None:
    service.database.write(partial(rankings.delete_ranking, owner=caller.owner, query_id=query_id))


def ranking_path(query_id: str) -> str:
    return f"/v1/queries/{query_id}/ranking"


def _read(service: Service, caller: Principal, query_id: str) -> tuple[RankingBody, str]:
    with service.database.reading() as session:
        query, row, job = rankings.find_ranking(session, owner=caller.owner, query_id=query_id)
        versions = []
        if job.state == "succeeded":
            versions = rankings.ranked_versions(session, row, caller)
        items = _items(service, query, row, versions)
        return _body(query, row, job, items), job.id


def _items(
    service: Service, query: Query, row: Ranking, versions: list[ReferenceVersion]
) -> list[RankedItem]:
    found: Mapping[str, Mapping[str, Any]] = {each["version_id"]: each for each in row.items or ()}
    ranked = [
        RankedReference(
            version,
            service.genes.coverage(query, version),
            service.genes.manifest(version).thresholds.poorly_explained_below,
            found.get(version.id),
        )
        for version in versions
    ]
    return [_item(each) for each in sorted(ranked, key=lambda each: each.place)]


def _item(ranked: RankedReference) -> RankedItem:
    covered = gene_coverage(ranked.version, ranked.coverage).model_dump()
    return RankedItem(
        **covered,
        **ranked.figures,
        score=ranked.score,
        verdict=ranked.verdict,
        problem=ranked.problem,
        links={"reference": version_path(ranked.version)},
    )


def _body(query: Query, row: Ranking, job: Job, items: list[RankedItem]) -> RankingBody:
    return RankingBody(
        id=row.id,
        state=job.state,
        terminal=job.state in TERMINAL_STATES,
        created_at=row.created_at,
        updated_at=max(row.created_at, job.updated_at),
        links={"self": ranking_path(query.id), "query": f"/v1/queries/{query.id}"},
        problem=job.problem,
        query=query.id,
        progress=job.progress,
        stage=job.stage,
        items=items,
    )
