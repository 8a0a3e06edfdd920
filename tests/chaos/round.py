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
from tests.e2e.processes import descendants

from .checker import TERMINAL, Violation, violations
from .clients import Caller, Client, Work, digests
from .history import History
from .killing import Deck, kill_one, targets, weights
from .modes import opened
from .preparing import register, work
from .services import CELLGRAFT, Service
from .survey import is_quiet, survey, sweep, told_results

STANDSTILL_SECONDS = 5.0
READY_SECONDS, MEET_SECONDS, QUIET_SECONDS = 120.0, 120.0, 240.0


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
        return weights(self.mode, real=self.real)

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

    mode: str
    met: set[str] = field(default_factory=set)
    """What was found alive, of all that can be killed in any mode."""
    kills: Counter[str] = field(default_factory=Counter)
    uploads: int = 0
    mappings: int = 0
    shards: int = 0
    """Jobs that mappings of large queries were split into."""
    swept: int = 0
    seconds: float = 0.0
    violations: list[Violation] = field(default_factory=list)


def play(plan: Plan) -> Outcome:
    """The history stays in the plan's folder."""
    began = time.monotonic()
    plan.folder.mkdir(parents=True)
    history = History(plan.folder / "history.jsonl")
    dice = random.Random(plan.seed)
    outcome = Outcome(plan.mode)
    spared = descendants(os.getpid())
    with opened(plan.folder, mode=plan.mode, real=plan.real) as service:
        register(service, plan.folder, real=plan.real)
        assert service.until(service.is_ready, READY_SECONDS), "the service does not start"
        todo = work(plan.folder, real=plan.real)
        _run_undisturbed(service, history, todo)
        with _clients(plan.clients, service, history, todo, dice):
            _meet(plan, service, outcome.met, spared)
            _kill(plan, service, history, dice, outcome, spared)
        outcome.violations = _judge(service, history, outcome)
    _count(history, outcome)
    outcome.seconds = time.monotonic() - began
    return outcome


def _run_undisturbed(service: Service, history: History, todo: Work) -> None:
    """Every file by every recipe: the bytes that all other runs must give."""
    caller = Caller(service.urls, history, random.Random(0))
    with closing(caller):
        queries = [(caller.upload(file), file.name) for file in todo.files]
        asked = [
            (caller.submit(query, content, recipe), content, recipe)
            for query, content in queries
            for recipe in todo.recipes
        ]
        for mapping, content, recipe in asked:
            ends = partial(_has_ended, caller, mapping)
            assert service.until(ends, QUIET_SECONDS), "no undisturbed run"
            told = digests(caller.look(mapping))
            results = {name: told[name] for name in todo.compared}
            history.note("undisturbed", content=content, recipe=recipe, results=results)


def _has_ended(caller: Caller, mapping: str) -> bool:
    return caller.look(mapping)["state"] in TERMINAL


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


def _meet(plan: Plan, service: Service, met: set[str], spared: Collection[int]) -> None:
    """A target that is never there would never be killed: then its weight is dead."""

    def all_met() -> bool:
        met.update(targets(spared))
        return met >= plan.weights.keys()

    service.until(all_met, MEET_SECONDS)
    assert all_met(), f"never seen: {plan.weights.keys() - met}"


def _kill(
    plan: Plan,
    service: Service,
    history: History,
    dice: random.Random,
    outcome: Outcome,
    spared: Collection[int],
) -> None:
    longest, deck = plan.longest_pause, Deck(dice, plan.weights)
    for _ in range(plan.kills):
        # A service that answers nobody loses nothing: between two kills the work moves on.
        before = history.answers
        service.until(lambda before=before: history.answers > before, STANDSTILL_SECONDS)
        target = kill_one(deck, dice, spared=spared, tend=service.tend, longest_pause=longest)
        history.note("killed", target=target)
        outcome.kills[target] += 1


def _judge(service: Service, history: History, outcome: Outcome) -> list[Violation]:
    """Wait until all is quiet, ask, stop the service, look into the store, compare."""
    service.until(service.is_ready, READY_SECONDS)
    with closing(Database(service.database_url)) as database:
        service.until(lambda: is_quiet(database), QUIET_SECONDS)
        results = told_results(service.urls[0], database)
        service.stop()
        storage = service.storage()
        outcome.swept, disagreements = sweep(database, storage)
        fsck = (*disagreements, *_fsck(service))
        findings = survey(database, storage, results, fsck)
    outcome.shards = len(findings.shards)
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
