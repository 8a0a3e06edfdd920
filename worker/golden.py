"""Golden queries mapped as any query is, by the zygote and the child, and judged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.problems import Problem
from worker.agreement import label_agreement, largest_difference
from worker.checking import CheckOrder
from worker.orders import MapOrder
from worker.outcomes import WorkerDied
from worker.workplace import Workplace

TOLERANCE = 1e-5
"""Largest difference of a latent coordinate on the class of device where it was stored."""
LATENT = "latent.npy"


@dataclass(frozen=True)
class GoldenWork:
    """A golden query as plain values, and the version that it belongs to."""

    golden_id: str
    filename: str
    storage_key: str
    sha256: str
    expect: str
    options: dict[str, Any]
    min_agreement: float | None
    problem_type: str | None
    latents: dict[str, Any]
    reference_prefix: str
    manifest_sha256: str


@dataclass(frozen=True)
class Judgement:
    """What came of one golden query, and whether that is what must come of it."""

    holds: bool
    told: str
    agreement: float | None = None
    difference: float | None = None
    """Of the latents from those of the first run; None on the first run."""
    device: str | None = None
    new_latents: Path | None = None
    """To be kept: there are none of this class of device yet. Gone when the next one is judged."""
    new_problem_type: str | None = None


@contextmanager
def working(place: Workplace) -> Iterator[None]:
    """The two processes that checks and mappings run in."""
    place.zygote.start()
    place.child.start()
    try:
        yield
    finally:
        place.zygote.stop()
        place.child.stop()


def judge_all(place: Workplace, works: list[GoldenWork]) -> Iterator[tuple[GoldenWork, Judgement]]:
    """Map one after the other, each in a folder that lasts until the next is asked for."""
    for work in works:
        with TemporaryDirectory(prefix="golden-", dir=place.staging) as folder:
            yield work, _judge(place, work, Path(folder))


def _judge(place: Workplace, work: GoldenWork, folder: Path) -> Judgement:
    try:
        _map(place, work, folder)
    except Problem as problem:
        return _refused(work, problem)
    except WorkerDied as death:
        _revive(place)
        return Judgement(False, f"no answer: {death}")
    if work.expect == "fail":
        return Judgement(False, "it maps, and must be refused")
    return _mapped(place, work, folder)


def _map(place: Workplace, work: GoldenWork, folder: Path) -> None:
    storage = place.storage
    canonical, out = folder / "canonical", folder / "out"
    out.mkdir()
    with storage.borrow_file(work.storage_key, sha256=work.sha256) as file:
        order = CheckOrder(
            path=file,
            folder=canonical,
            options=work.options,
            seconds=place.intake_seconds,
            limits=place.intake_limits(),
        )
        place.zygote.check(order)
    with storage.borrow_folder(work.reference_prefix) as bundle:
        place.child.run(
            MapOrder(
                mapping_id=f"golden-{work.golden_id}",
                canonical=canonical,
                bundle=bundle,
                manifest_sha256=work.manifest_sha256,
                out=out,
                # Not the labels: those that help a fit would be no proof of it.
                options={"batch_key": work.options.get("batch_key"), "recipe": "default"},
                query_facts={"filename": work.filename, "sha256": work.sha256},
                threads=place.threads,
                device=place.device,
            )
        )


def _refused(work: GoldenWork, problem: Problem) -> Judgement:
    said = f"refused ({problem.type}): {problem.detail}"
    if work.expect == "pass" or problem.fault == "service":
        return Judgement(False, said)
    if work.problem_type is None:
        return Judgement(True, said, new_problem_type=problem.type)
    if problem.type != work.problem_type:
        return Judgement(False, f"{said} It must be {work.problem_type}.")
    return Judgement(True, said)


def _mapped(place: Workplace, work: GoldenWork, folder: Path) -> Judgement:
    device = place.child.automatic_device if place.device == "auto" else place.device
    device = (device or "cpu").partition(":")[0]
    latent, agreement, faults = folder / "out" / LATENT, None, []
    labels_key = work.options.get("labels_key")
    if labels_key is not None:
        with place.storage.borrow_folder(work.reference_prefix) as bundle:
            agreement = label_agreement(bundle, folder / "canonical", latent, labels_key)
        if agreement is None:
            faults.append("its labels cannot be compared: none is among the reference's")
        elif agreement < (work.min_agreement or 0.0):
            faults.append(f"labels agree in {agreement:.3f}, less than {work.min_agreement:g}")
    difference = None
    stored = work.latents.get(device)
    if stored is not None:
        with place.storage.borrow_file(stored["key"], sha256=stored["sha256"]) as first:
            difference = largest_difference(first, latent)
        if not difference <= TOLERANCE:
            faults.append(f"latents differ from the first run's by {difference:.2g}")
    return Judgement(
        holds=not faults,
        told="; ".join(faults) or "maps",
        agreement=agreement,
        difference=difference,
        device=device,
        new_latents=latent if stored is None and not faults else None,
    )


def _revive(place: Workplace) -> None:
    for process in (place.zygote, place.child):
        if not process.is_alive():
            process.start()
