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


@contextmanager
def alone(storage: Storage) -> Iterator[None]:
    """Hold the experiment at `storage` while the block runs; StorageError where another process of this
    machine does. The hold ends with the process, however it ends; other machines are not seen.
    """
    if sys.platform == "win32":  # nobody is kept out there
        yield
        return
    # not in the experiment's folder, which --fresh deletes
    name = hashlib.sha256(storage.root.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"sparsepop-{os.getuid()}-{name}.lock")
    with path.open("a+") as file:
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
