"""Which states somebody may still load: all others can go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set

StateKey = tuple[int, int]  # (member, generation): whose state, and from the end of which generation


class Needs:
    """What each member needs, and how many need each state: a whole population would take the square of its
    size to look through at every post."""

    def __init__(self) -> None:
        self._needs: dict[int, Set[StateKey]] = {}  # by member
        self._users: Counter[StateKey] = Counter()
        self._released: set[StateKey] = set()

    def __contains__(self, state: StateKey) -> bool:
        return state in self._users

    def update(self, member: int, states: Set[StateKey]) -> None:
        """From now on `member` needs these."""
        before = self._needs.get(member, frozenset())
        self._needs[member] = states
        self._users.update(states - before)
        for state in before - states:
            self._users[state] -= 1
            if not self._users[state]:
                del self._users[state]
                self._released.add(state)

    def take_released(self) -> set[StateKey]:
        """States that have stopped being needed since this was last asked, and still are not."""
        released, self._released = self._released, set()
        return {state for state in released if state not in self}
