"""Work ahead in threads: order kept, never more than a few items in flight."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

from imgindex.types import Embedder

FLYING_BYTES = 256 << 20

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    pool: Executor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    depth: int | Callable[[], int],
    size: Callable[[Item], int] = lambda item: 0,
) -> Iterator[Result]:
    """Yield function(item) in the order of items, computed by the pool.

    At most `depth` items are in flight (a function is asked with every item), and no further one while the `size` of
    those is above FLYING_BYTES: so memory is bounded, however many and large they are. Threads are enough, since Pillow
    and torch let go of the interpreter's lock while they work.
    """
    flying: deque[tuple[Future[Result], int]] = deque()
    weight = 0
    try:
        for item in items:
            flying.append((pool.submit(function, item), size(item)))
            weight += flying[-1][1]
            while len(flying) >= (depth if isinstance(depth, int) else depth()) or weight > FLYING_BYTES:
                future, landed = flying.popleft()
                weight -= landed
                yield future.result()
                if not flying:
                    break
        while flying:
            yield flying.popleft()[0].result()
    finally:
        for future, _ in flying:
            future.cancel()


def in_lanes(embedder: Embedder, function: Callable[[Item], Result], batches: Iterable[Item]) -> Iterator[Result]:
    """Yield function(batch), which embeds it, in the order of batches: as many at once as the embedder has lanes."""
    with ThreadPoolExecutor(embedder.lanes, thread_name_prefix="imgindex-network") as pool:
        yield from ahead(pool, function, batches, depth=embedder.lanes + 1)


def worker_count(wanted: int | None) -> int:
    """Return how many threads decode: as many as asked for, else one for each processor this process may use."""
    if wanted is not None:
        return wanted
    affinity = getattr(os, "sched_getaffinity", None)
    return max(2, min(32, len(affinity(0)) if affinity else os.cpu_count() or 1))
