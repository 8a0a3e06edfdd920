"""The killer's deck: no weight goes unused, and no target is forgotten for being away."""

from __future__ import annotations

import random
from collections import Counter

from .killing import Deck, weights


def test_each_target_comes_as_often_as_its_weight() -> None:
    chosen = weights("embedded", real=False)
    deck = Deck(random.Random(0), chosen)
    for _ in range(3):
        assert Counter(deck.draw() for _ in range(sum(chosen.values()))) == chosen


def test_what_was_not_there_comes_again_before_the_rest_does() -> None:
    deck = Deck(random.Random(0), {"api": 2, "check": 1})
    away = deck.draw()
    deck.put_back(away)
    assert Counter(deck.draw() for _ in range(3)) == {"api": 2, "check": 1}


def test_a_target_that_is_not_to_be_killed_is_in_no_deck() -> None:
    assert "check" in weights("s3", real=False)
    assert "check" not in weights("s3", real=True)
    assert "supervisor" not in weights("s3", real=False)
