"""Fields, sources, batches. What is read here becomes tensors that a net can take."""

from konspekt.data.batches import Batches, Resident
from konspekt.data.downloads import fetch
from konspekt.data.fields import Batch, Field, Ragged
from konspekt.data.sets import load

__all__ = ["Batch", "Batches", "Field", "Ragged", "Resident", "fetch", "load"]
