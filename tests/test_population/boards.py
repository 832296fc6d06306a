"""What the exchange does with a board, without its process."""

from __future__ import annotations

from collections.abc import Iterable

from sparsepop.population.board import Board, Entry
from sparsepop.population.messages import Post


def tell(board: Board, post: Post) -> None:
    """Post, and decide what is due then."""
    if not board.known(post):
        board.keep(post)
        board.note(post)
        settle(board, board.due(post))


def settle(board: Board, entries: Iterable[Entry]) -> list[str]:
    """Journal and answer; the names of the entries."""
    tags = []
    for tag, decided in entries:
        board.expect(decided)
        board.journal(tag, decided)
        board.enter(decided)
        tags.append(tag)
    return tags
