"""Map a function over items in threads: ahead of the consumer, in order, with few items in memory at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

from imgindex.types import Encoder

MAX_BYTES_IN_FLIGHT = 256 << 20

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    pool: Executor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    depth: int | Callable[[], int],
    size: Callable[[Item], int] = lambda item: 0,
) -> Iterator[Result]:
    """Yield function(item) in the order of items, computed by the pool.

    depth: how many items are in flight at most; a function is called again for every item. size: the bytes of an item;
    no further item is taken while the items in flight have more than MAX_BYTES_IN_FLIGHT. So memory is bounded, however
    many and large the items are.

    Threads are enough, because Pillow and the network release the interpreter's lock while they work.
    """
    in_flight: deque[tuple[Future[Result], int]] = deque()
    bytes_in_flight = 0
    try:
        for item in items:
            item_bytes = size(item)
            in_flight.append((pool.submit(function, item), item_bytes))
            bytes_in_flight += item_bytes
            while (
                len(in_flight) >= (depth if isinstance(depth, int) else depth())
                or bytes_in_flight > MAX_BYTES_IN_FLIGHT
            ):
                future, done_bytes = in_flight.popleft()
                bytes_in_flight -= done_bytes
                yield future.result()
                if not in_flight:
                    break
        while in_flight:
            yield in_flight.popleft()[0].result()
    finally:
        for future, _ in in_flight:
            future.cancel()


def map_in_streams(encoder: Encoder, function: Callable[[Item], Result], batches: Iterable[Item]) -> Iterator[Result]:
    """Yield function(batch), which embeds it, in the order of batches: as many at once as the encoder has streams."""
    with ThreadPoolExecutor(encoder.streams, thread_name_prefix="imgindex-network") as pool:
        yield from map_ahead(pool, function, batches, depth=encoder.streams + 1)


def worker_count(wanted: int | None) -> int:
    """Return how many threads decode: `wanted`, or if that is None one for each processor this process may use."""
    if wanted is not None:
        return wanted
    return max(2, min(32, core_count()))


def core_count() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
