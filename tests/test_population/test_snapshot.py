"""States as bytes on storage and as arrays between processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsepop.member import Member, Task
from sparsepop.population.snapshot import DamagedState, Snapshot, decode, encode, from_arrays, to_arrays
from sparsepop.population.states import StateFiles
from sparsepop.storage import Storage
from tests.test_population.worlds import recipe

HP = {"lr": 0.1, "fraction": 0.3, "kind": ("a", None, True, 2)}


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    member = Member.build(recipe(HP), 1, Task((1, 8, 8), 10))
    return Snapshot(2, 3, 24, 0.5, 0.1, HP, member.state(), 1.5, 2.5, 0.75)


def test_what_is_encoded_comes_back(snapshot: Snapshot) -> None:
    back = decode(encode(snapshot))
    assert replace(back, state={}) == replace(snapshot, state={})
    assert back.state.keys() == snapshot.state.keys()
    for name, weight in snapshot.state["model"].items():
        assert torch.equal(back.state["model"][name], weight)
    assert (back.post.member, back.post.generation, back.post.step, back.post.hp) == (2, 3, 24, HP)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_cut_short_it_is_damaged(snapshot: Snapshot, share: float) -> None:
    data = encode(snapshot)
    with pytest.raises(DamagedState):
        decode(data[: int(share * len(data))])


def test_a_single_other_byte_anywhere_is_damage(snapshot: Snapshot) -> None:
    data = encode(snapshot)
    for place in range(0, len(data), 4999):
        changed = bytearray(data)
        changed[place] ^= 0x10
        with pytest.raises(DamagedState):
            decode(bytes(changed))


def test_another_objects_bytes_are_damaged() -> None:
    import io

    buffer = io.BytesIO()
    torch.save({"member": 1}, buffer)
    with pytest.raises(DamagedState, match="TypeError"):
        decode(buffer.getvalue())


def test_arrays_share_memory_and_come_back(snapshot: Snapshot) -> None:
    arrays = to_arrays(snapshot.state)
    name = "masks"
    assert all(isinstance(each, np.ndarray) for each in arrays[name]["tensors"].values())
    weight = next(iter(snapshot.state["model"]))
    assert arrays["model"][weight].ctypes.data == snapshot.state["model"][weight].data_ptr()
    arrays["model"][weight].flags.writeable = False  # as the object store hands it out
    back = from_arrays(arrays)
    assert torch.equal(back["model"][weight], snapshot.state["model"][weight])
    assert back["step"] == snapshot.state["step"]


def test_files_of_members_and_generations(tmp_path: Path) -> None:
    files = StateFiles(Storage(str(tmp_path)))
    assert files.all() == set()
    for key in ((0, 1), (0, 2), (11, 10_000)):
        files.write(*key, data=b"x")
    assert files.all() == {(0, 1), (0, 2), (11, 10_000)}
    assert files.generations(0) == [2, 1]
    files.delete(0, 2)
    files.delete(0, 2)
    assert files.generations(0) == [1]
    assert files.read(11, 10_000) == b"x"
    with pytest.raises(FileNotFoundError):
        files.read(5, 1)
