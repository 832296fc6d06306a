"""The files that hold members' states, one for each member and generation, whatever is in them."""

from __future__ import annotations

from sparsepop.storage import Storage


class StateFiles:
    """States of all members as bytes. Free of torch, so that the exchange's process stays small."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def write(self, member: int, generation: int, data: bytes) -> None:
        """Keep a state, atomically."""
        self.storage.write(self.path(member, generation), data)

    def read(self, member: int, generation: int) -> bytes:
        """A state; FileNotFoundError when it is not there."""
        return self.storage.read(self.path(member, generation))

    def delete(self, member: int, generation: int) -> None:
        """Forget a state; nothing happens when it is not there."""
        self.storage.delete(self.path(member, generation))

    def generations(self, member: int) -> list[int]:
        """Generations of which a state of `member` is there, newest first."""
        names = self.storage.names(f"states/m{member:04d}")
        return sorted((int(name[1:].removesuffix(".pt")) for name in names), reverse=True)

    def all(self) -> set[tuple[int, int]]:
        """(member, generation) of every state that is there."""
        members = [int(name[1:]) for name in self.storage.names("states")]
        return {(member, generation) for member in members for generation in self.generations(member)}

    def path(self, member: int, generation: int) -> str:
        """Where a state lies in the experiment."""
        return f"states/m{member:04d}/g{generation:04d}.pt"
