"""One driver for an experiment: two would write the same members, each superseding the other's rows."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparsepop.storage import Storage, StorageError

if sys.platform != "win32":
    import fcntl

_COMMON = "/tmp"


@contextmanager
def alone(storage: Storage) -> Iterator[None]:
    """Hold the experiment at `storage` while the block runs; StorageError where another process of this
    machine does. The hold ends with the process, however it ends; other machines are not seen.
    """
    if sys.platform == "win32":  # nobody is kept out there
        yield
        return
    with _lock(storage).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StorageError(
                f"{storage} is being trained by process {file.read() or 'unknown'} on this machine: "
                "wait for it, stop it, or choose another place with --storage"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _lock(storage: Storage) -> Path:
    """The same file for all drivers of one experiment; not in its folder, which --fresh deletes."""
    # a link to the folder leads to the same experiment
    place = os.path.realpath(storage.root) if storage.local else storage.root
    name = hashlib.sha256(place.encode()).hexdigest()[:16]
    return Path(_folder(), f"sparsepop-{os.getuid()}-{name}.lock")


def _folder() -> str:
    """Where locks lie: on one machine the same for all, as TMPDIR, which batch systems set, is not."""
    return _COMMON if os.access(_COMMON, os.W_OK | os.X_OK) else tempfile.gettempdir()
