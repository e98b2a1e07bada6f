"""A progress bar for work that tells how much of it is settled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm


@contextmanager
def embedding_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many embeddings are made.

    Parameters
    ----------
    name : str
        Of what makes them.

    Yields
    ------
    callable
        To be called with the number made and the number in all.
    """
    bar: tqdm[NoReturn]
    with tqdm(unit='embedding', desc=name) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
