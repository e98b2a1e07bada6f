"""Tables as CSV files that no spreadsheet takes for formulas."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from napari_kdsam.core.files import atomic_path
from napari_kdsam.core.names import csv_cell

if TYPE_CHECKING:
    import pandas as pd


def write_csv(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table, its text as `csv_cell` makes it and its numbers as they are.

    Parameters
    ----------
    path : path-like
        The CSV file; it is complete or, after an error, as it was before.
    table : pandas.DataFrame
        Its index is left out.

    Raises
    ------
    ImageError
        If the file cannot be written.
    """
    texts = table.select_dtypes(exclude=('number', 'bool')).columns
    safe = table.astype(dict.fromkeys(texts, object))
    for name in texts:
        safe[name] = safe[name].map(_cell)
    with atomic_path(path) as part:
        safe.to_csv(part, index=False, encoding='utf-8')


def _cell(value: Any) -> Any:
    return csv_cell(value) if isinstance(value, str) else value
