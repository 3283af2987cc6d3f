"""Functions of truth and prediction, and of data and what was found in them."""

__all__: list[str] = []
