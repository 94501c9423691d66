"""How far half precision changes answers, as it was measured here: kept among the settings of the catalogue."""

from __future__ import annotations

import json
from dataclasses import asdict

from imgindex.storage.catalogue import Catalogue
from imgindex.types import PrecisionReceipt

KEY = "precision receipt "


def read(catalogue: Catalogue) -> dict[str, PrecisionReceipt]:
    """Return the receipts by precision; one that does not make sense is as good as none."""
    found = {}
    for key, value in catalogue.settings().items():
        if key.startswith(KEY):
            try:
                receipt = PrecisionReceipt(**json.loads(value))
                known = receipt.pictures > 0 and 0 <= receipt.overlap <= 1 and -1 <= receipt.cosine <= 1.01
            except (ValueError, TypeError, RecursionError):
                continue
            if known:
                found[receipt.precision] = receipt
    return found


def write(catalogue: Catalogue, receipt: PrecisionReceipt) -> None:
    """Record a receipt in the place of the older one of its precision; the caller commits."""
    catalogue.set_setting(KEY + receipt.precision, json.dumps(asdict(receipt)))
