"""How many threads FAISS uses: as many as a piece of work is worth."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

# Multiplications that one thread makes in about the time that another one may take to start on a busy core.
WORTH_A_THREAD = 2e7


@contextlib.contextmanager
def limited_threads(count: float) -> Iterator[None]:
    """Let the FAISS calls of this thread use at most `count` threads within the block, and at least one.

    FAISS waits until all threads have ended. Where other programs use the cores, one that was not given a core yet
    keeps a call of microseconds waiting for milliseconds.
    """
    # Imported late: where both are loaded, torch must come before FAISS.
    from imgindex.vectors.faiss_library import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(max(1, min(before, int(count))))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def threads_for(multiplications: float) -> float:
    """Return the number of threads that so many multiplications are worth."""
    return 1 + multiplications / WORTH_A_THREAD
