"""One round: a service from scratch, an undisturbed run, kills while clients work, a judgement."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from app.database import Database
from app.storage import LocalStorage
from tests.e2e.processes import descendants

from .checker import TERMINAL, Violation, violations
from .clients import Caller, Client, Work, digests
from .history import History
from .killing import REAL_WEIGHTS, WEIGHTS, kill_one
from .preparing import opened, register, work
from .services import CELLGRAFT, Service
from .survey import is_quiet, survey, sweep, told_results

STANDSTILL_SECONDS = 5.0
READY_SECONDS, QUIET_SECONDS = 120.0, 240.0
AWAY = {"embedded": {"postgresql", "redis"}, "distributed": {"supervisor"}}
"""What a mode does not have."""


@dataclass(frozen=True)
class Plan:
    """What one round does; the same plan makes the same choices."""

    folder: Path
    seed: str
    kills: int
    mode: str
    real: bool = False

    @property
    def weights(self) -> dict[str, int]:
        """How often each target is chosen."""
        weights = REAL_WEIGHTS if self.real else WEIGHTS
        return {name: each for name, each in weights.items() if name not in AWAY[self.mode]}

    @property
    def clients(self) -> int:
        return 1 if self.real else 4

    @property
    def longest_pause(self) -> float:
        """Seconds between two kills at most: long enough for the work to move on."""
        return 6.0 if self.real else 1.0


@dataclass
class Outcome:
    """What happened, and what was broken."""

    kills: Counter[str] = field(default_factory=Counter)
    uploads: int = 0
    mappings: int = 0
    swept: int = 0
    seconds: float = 0.0
    violations: list[Violation] = field(default_factory=list)


def play(plan: Plan) -> Outcome:
    """The history stays in the plan's folder."""
    began = time.monotonic()
    plan.folder.mkdir(parents=True)
    history = History(plan.folder / "history.jsonl")
    dice = random.Random(plan.seed)
    outcome = Outcome()
    spared = descendants(os.getpid())
    with opened(plan.folder, mode=plan.mode, real=plan.real) as service:
        register(service, plan.folder, real=plan.real)
        assert service.until(service.is_ready, READY_SECONDS), "the service does not start"
        todo = work(plan.folder, real=plan.real)
        _run_undisturbed(service, history, todo)
        with _clients(plan.clients, service, history, todo, dice):
            _kill(plan, service, history, dice, outcome, spared)
        outcome.violations = _judge(service, history, outcome)
    _count(history, outcome)
    outcome.seconds = time.monotonic() - began
    return outcome


def _run_undisturbed(service: Service, history: History, todo: Work) -> None:
    """Every file by every recipe: the bytes that all other runs must give."""
    caller = Caller(service.urls, history, random.Random(0))
    with closing(caller):
        for file in todo.files:
            query = caller.upload(file)
            for recipe in todo.recipes:
                mapping = caller.submit(query, file.name, recipe)
                told = partial(caller.look, mapping)
                assert service.until(lambda told=told: told()["state"] in TERMINAL, QUIET_SECONDS)
                results = {name: digests(told())[name] for name in todo.compared}
                history.note("undisturbed", content=file.name, recipe=recipe, results=results)


@contextmanager
def _clients(
    number: int, service: Service, history: History, todo: Work, dice: random.Random
) -> Iterator[None]:
    """At work until the `with` ends; then each hears the answer to its last request, or not."""
    seeds = [dice.getrandbits(64) for _ in range(number)]
    clients = [Client(Caller(service.urls, history, random.Random(seed)), todo) for seed in seeds]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        for client in clients:
            client.caller.over.set()
        service.until(lambda: not any(client.is_alive() for client in clients), 60)


def _kill(
    plan: Plan,
    service: Service,
    history: History,
    dice: random.Random,
    outcome: Outcome,
    spared: Collection[int],
) -> None:
    longest = plan.longest_pause
    for _ in range(plan.kills):
        # A service that answers nobody loses nothing: between two kills the work moves on.
        before = history.answers
        service.until(lambda before=before: history.answers > before, STANDSTILL_SECONDS)
        target = kill_one(
            dice, plan.weights, spared=spared, tend=service.tend, longest_pause=longest
        )
        history.note("killed", target=target)
        outcome.kills[target] += 1


def _judge(service: Service, history: History, outcome: Outcome) -> list[Violation]:
    """Wait until all is quiet, ask, stop the service, look into the store, compare."""
    service.until(service.is_ready, READY_SECONDS)
    with closing(Database(service.database_url)) as database:
        service.until(lambda: is_quiet(database), QUIET_SECONDS)
        results = told_results(service.urls[0], database)
        service.stop()
        storage = LocalStorage(service.data_dir / "store")
        outcome.swept, disagreements = sweep(database, storage)
        fsck = (*disagreements, *_fsck(service))
        findings = survey(database, service.data_dir / "store", results, fsck)
    return violations(history.entries(), findings)


def _fsck(service: Service) -> list[str]:
    """What the command itself says of the stopped and swept service; nothing, if all is well."""
    line = [*CELLGRAFT, "fsck"]
    environment = service.commands[0].environment
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else (done.stdout + done.stderr).splitlines()


def _count(history: History, outcome: Outcome) -> None:
    kinds = Counter(entry["kind"] for entry in history.entries())
    outcome.uploads, outcome.mappings = kinds["uploaded"], kinds["submitted"]
