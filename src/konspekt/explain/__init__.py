"""Looking inside a net: its summary, its receptive fields, its filters and maps, what it attends to, what it can do without."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from konspekt.explain.averages import averaging_copy as averaging_copy
    from konspekt.explain.effective import EffectiveField as EffectiveField
    from konspekt.explain.effective import effective_field as effective_field
    from konspekt.explain.evidence import Evidence as Evidence
    from konspekt.explain.evidence import class_activation_map as class_activation_map
    from konspekt.explain.evidence import saliency as saliency
    from konspekt.explain.fields import Field as Field
    from konspekt.explain.looks import activations as activations
    from konspekt.explain.looks import filters as filters
    from konspekt.explain.pruning import Pruned as Pruned
    from konspekt.explain.pruning import prune as prune
    from konspekt.explain.receptive import receptive_field as receptive_field
    from konspekt.explain.receptive import receptive_fields as receptive_fields
    from konspekt.explain.sheets import Panel as Panel
    from konspekt.explain.sheets import Sheet as Sheet
    from konspekt.explain.summaries import LayerRow as LayerRow
    from konspekt.explain.summaries import Summary as Summary
    from konspekt.explain.summaries import summary as summary

_HOMES = {
    "EffectiveField": "konspekt.explain.effective",
    "Evidence": "konspekt.explain.evidence",
    "Field": "konspekt.explain.fields",
    "LayerRow": "konspekt.explain.summaries",
    "Panel": "konspekt.explain.sheets",
    "Pruned": "konspekt.explain.pruning",
    "Sheet": "konspekt.explain.sheets",
    "Summary": "konspekt.explain.summaries",
    "activations": "konspekt.explain.looks",
    "averaging_copy": "konspekt.explain.averages",
    "class_activation_map": "konspekt.explain.evidence",
    "effective_field": "konspekt.explain.effective",
    "filters": "konspekt.explain.looks",
    "prune": "konspekt.explain.pruning",
    "receptive_field": "konspekt.explain.receptive",
    "receptive_fields": "konspekt.explain.receptive",
    "saliency": "konspekt.explain.evidence",
    "summary": "konspekt.explain.summaries",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'konspekt.explain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
