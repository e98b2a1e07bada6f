"""The cache keeps what was used last and never more than its budget."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from napari_kdsam.inference.cache import LeastRecentlyUsed

BUDGET = 100
keys = st.sampled_from('abcdefgh')


@dataclass(frozen=True, eq=False)
class Block:
    """A value that only has a size."""

    nbytes: int


class CacheAgainstAList(RuleBasedStateMachine):
    """Compare the cache with the simplest list that obeys its description."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: LeastRecentlyUsed[Block] = LeastRecentlyUsed(BUDGET)
        self.expected: list[tuple[str, Block]] = []

    @rule(key=keys, size=st.integers(0, BUDGET + 30))
    def put(self, key: str, size: int) -> None:
        block = Block(size)
        self.cache.put(key, block)
        self.expected = [item for item in self.expected if item[0] != key]
        if size <= BUDGET:
            self.expected.append((key, block))
        while sum(kept.nbytes for _, kept in self.expected) > BUDGET:
            del self.expected[0]

    @rule(key=keys)
    def get(self, key: str) -> None:
        found = self.cache.get(key)
        held = dict(self.expected)
        assert found is held.get(key)
        if found is not None:
            self.expected.remove((key, found))
            self.expected.append((key, found))

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.expected = []

    @invariant()
    def never_above_budget(self) -> None:
        assert 0 <= self.cache.nbytes <= BUDGET

    @invariant()
    def counts_what_it_holds(self) -> None:
        assert self.cache.nbytes == sum(block.nbytes for _, block in self.expected)

    @invariant()
    def holds_exactly_what_was_used_last(self) -> None:
        assert len(self.cache) == len(self.expected)
        assert all(key in self.cache for key, _ in self.expected)


TestCacheAgainstAList = CacheAgainstAList.TestCase
TestCacheAgainstAList.settings = settings(
    deadline=None, max_examples=100, stateful_step_count=40
)


def test_reading_a_value_keeps_it_when_room_is_needed() -> None:
    cache: LeastRecentlyUsed[Block] = LeastRecentlyUsed(3)
    for key in 'abc':
        cache.put(key, Block(1))
    cache.get('a')
    cache.put('d', Block(1))
    assert [key for key in 'abcd' if key in cache] == ['a', 'c', 'd']


@pytest.mark.parametrize('held', ['abc', ''])
def test_a_value_larger_than_the_budget_is_not_kept_and_drops_nothing(
    held: str,
) -> None:
    cache: LeastRecentlyUsed[Block] = LeastRecentlyUsed(3)
    for key in held:
        cache.put(key, Block(1))
    cache.put('x', Block(4))
    assert 'x' not in cache
    assert [key for key in 'abc' if key in cache] == list(held)


def test_a_budget_of_nothing_keeps_nothing() -> None:
    cache: LeastRecentlyUsed[Block] = LeastRecentlyUsed(0)
    cache.put('a', Block(1))
    assert cache.get('a') is None
    assert (len(cache), cache.nbytes) == (0, 0)


def test_several_threads_leave_the_count_right() -> None:
    cache: LeastRecentlyUsed[Block] = LeastRecentlyUsed(50)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(2000):
                cache.put(str((step * 7 + number) % 23), Block(step % 9))
                cache.get(str(step % 23))
        except BaseException as error:  # noqa: BLE001 - reported by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    assert 0 <= cache.nbytes <= 50
    held = [cache.get(str(n)) for n in range(23)]
    assert cache.nbytes == sum(block.nbytes for block in held if block is not None)
