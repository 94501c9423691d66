"""What an index is and holds, from one state of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from imgindex.embedding.recipe import Recipe
from imgindex.searching import receipt, target_recall
from imgindex.storage import receipts
from imgindex.storage.store import Store

RUNS = 5


def status(store: Store, recipe: Recipe) -> dict[str, Any]:
    """Return counts, recipe, sizes on disk in bytes, roots and the last runs."""
    with store.catalogue.snapshot():
        return {
            "index": store.path,
            **store.catalogue.count(),
            "recipe": {**asdict(recipe), "digest": recipe.digest},
            "store": store.segments.dtype.name,
            "segments": len(store.catalogue.segments()),
            "bytes": store.bytes_on_disk(),
            "search": receipt(store),
            "precision": [asdict(one) for one in receipts.read(store.catalogue).values()],
            "target_recall": target_recall(store.catalogue),
            "roots": store.catalogue.journal.roots(),
            "runs": store.catalogue.journal.runs(RUNS),
        }
