"""Whether a run has room on its disk: asked before it starts, for a full one ends it after hours."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sparsepop.storage import Storage, StorageError
from sparsepop.storage.local import is_temporary

FLOOR = 64 << 20  # bytes that any run needs: rows, posts, decisions
LEAST = 8 << 20  # bytes without which no run goes on
STATES = 3  # of each member at a time: two are kept while one is written


def needed_bytes(members: int, state: int) -> int:
    """What a run of `members` with states of `state` bytes needs on its storage, modestly estimated."""
    return max(FLOOR, STATES * members * state)


def check_room(storage: Storage, needed: int) -> None:
    """StorageError when a local `storage` has fewer than `needed` bytes left, not counting what already lies
    there, which is of this experiment and will be replaced. Object stores are not asked: they don't fill."""
    if not storage.local:
        return
    root = Path(storage.root)
    folder = next(each for each in (root, *root.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if free >= needed or (free >= LEAST and free + _held(root) >= needed):
        return
    raise StorageError(
        f"too little room for {storage}: {free:,} bytes are free there and about {needed:,} are needed; "
        "free some, or choose another place with --storage"
    )


def _held(root: Path) -> int:
    """Bytes in the files below `root` that are replaced: nobody writes over temporary ones."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_size
        for folder, _, names in os.walk(root)
        for name in names
        if not is_temporary(name)
    )
