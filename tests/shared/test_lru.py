"""The cache of pyramids: least recently used goes first, bytes are bounded."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featlink.shared.features import FeatureMaps, Sizes
from featlink.shared.lru import CacheEntry, PyramidCache


def pyramid(nbytes: int) -> CacheEntry:
    levels = {"p2": np.zeros((1, 1, nbytes // 4), np.float32)}
    return CacheEntry(FeatureMaps(levels, Sizes((1, 1), (1, 1), (32, 32))), 1.0)


def test_the_least_recently_used_goes_first() -> None:
    cache = PyramidCache(300)
    stored = {key: pyramid(100) for key in "abcd"}
    for key in "abc":
        cache.put(key, stored[key])
    assert cache.get("a") is stored["a"]
    cache.put("d", stored["d"])
    assert cache.get("b") is None
    assert [cache.get(key) is stored[key] for key in "acd"] == [True] * 3


def test_a_large_one_replaces_as_many_as_it_needs() -> None:
    cache = PyramidCache(300)
    for key in "abc":
        cache.put(key, pyramid(100))
    cache.put("d", pyramid(160))
    assert [cache.get(key) is None for key in "abcd"] == [True, True, False, False]


def test_what_does_not_fit_is_not_kept_and_drops_nothing() -> None:
    cache = PyramidCache(300)
    cache.put("a", pyramid(300))
    cache.put("b", pyramid(304))
    assert cache.get("a") is not None
    assert cache.get("b") is None


def test_no_bytes_keep_nothing() -> None:
    cache = PyramidCache(0)
    cache.put("a", pyramid(4))
    assert cache.get("a") is None


def test_the_first_stored_stays() -> None:
    cache = PyramidCache(300)
    first = pyramid(100)
    cache.put("a", first)
    cache.put("a", pyramid(100))
    assert cache.get("a") is first


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 12)), max_size=40))
def test_the_bound_holds_whatever_is_stored(puts: list[tuple[str, int]]) -> None:
    cache = PyramidCache(100)
    for key, size in puts:
        cache.put(key, pyramid(8 * size))
        kept = {name: found.pyramid.nbytes for name in "abcdefgh" if (found := cache.get(name)) is not None}
        assert key in kept, "what fits is kept"
        assert sum(kept.values()) <= 100


def test_threads_may_share_it() -> None:
    cache = PyramidCache(400)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for key in rng.integers(0, 10, 500):
            if cache.get(str(key)) is None:
                cache.put(str(key), pyramid(100))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(cache.get(str(key)) is not None for key in range(10)) == 4
