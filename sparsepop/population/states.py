"""The files that hold members' states, one for each member and generation, whatever is in them."""

from __future__ import annotations

from collections.abc import Collection

from sparsepop.population.names import member_name, member_of
from sparsepop.storage import Storage, side_by_side

_STATES = "states"


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

    def write_early(self, member: int, data: bytes) -> None:
        """Keep a state from within a generation, in place of an earlier such one."""
        self.storage.write(_early(member), data)

    def read_early(self, member: int) -> bytes:
        """The state from within a generation; FileNotFoundError when there is none."""
        return self.storage.read(_early(member))

    def delete_early(self, member: int) -> None:
        """Forget the state from within a generation, if there is one."""
        self.storage.delete(_early(member))

    def generations(self, member: int) -> list[int]:
        """Generations at whose end a state of `member` was kept that is still there, newest first."""
        names = self.storage.names(_folder(member))
        ends = (name[1:].removesuffix(".pt") for name in names if name.startswith("g"))
        return sorted(map(int, ends), reverse=True)

    def all(self) -> set[tuple[int, int]]:
        """(member, generation) of every state that is there."""
        members = [member_of(name) for name in self.storage.names(_STATES)]
        found = zip(members, side_by_side(self.generations, members), strict=True)
        return {(member, generation) for member, generations in found for generation in generations}

    def path(self, member: int, generation: int) -> str:
        """Where a state lies in the experiment."""
        return f"{_folder(member)}/g{generation:04d}.pt"


def merged_path(group: int, generation: int) -> str:
    """Where the network that a group's members became at the end of a round lies in the experiment."""
    return f"{_merged(group)}/g{generation:04d}.pt"


def delete_merged(storage: Storage, group: int, until: int, spared: Collection[int] = ()) -> None:
    """Forget the networks that a group's members became in rounds up to the generation `until`, but for those
    of the generations `spared`.
    """
    for name in storage.names(_merged(group)):
        generation = int(name[1:].removesuffix(".pt"))
        if generation <= until and generation not in spared:
            storage.delete(f"{_merged(group)}/{name}")


def _merged(group: int) -> str:
    return f"merged/p{group:04d}"


def _early(member: int) -> str:
    return f"{_folder(member)}/early.pt"


def _folder(member: int) -> str:
    return f"{_STATES}/{member_name(member)}"
