"""Writing on a local disk, so that a file is there whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import time
from contextlib import suppress
from uuid import uuid4

_TEMPORARY = ".tmp"  # together with a leading dot: never listed
_SCRATCH = re.compile(rf"\.[0-9a-f]{{32}}{re.escape(_TEMPORARY)}")  # what `temporary` makes up
_ABANDONED = 3600.0  # seconds: no write takes that long
_NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}


def temporary(name: str = "") -> str:
    """A file name that lists leave out: one that nobody else has, or one that belongs to `name`."""
    return f".{name or uuid4().hex}{_TEMPORARY}"


def is_temporary(name: str) -> bool:
    """Whether lists leave this name out."""
    return name.startswith(".") and name.endswith(_TEMPORARY)


def write_local(target: str, data: bytes, exclusive: bool) -> None:
    """Write beside the target, sync, then give it its name; FileExistsError when `exclusive` and taken.

    Where there are no hard links an exclusive write shows an empty file for a moment, and leaves it for good
    if it is killed in that moment.
    """
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    scratch = os.path.join(folder, temporary())  # same folder, so the same file system: a rename is atomic
    try:
        with open(scratch, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if exclusive:
            _link(scratch, target)
        else:
            os.replace(scratch, target)
    finally:
        with suppress(OSError):  # renamed away, or the error being raised says more
            os.unlink(scratch)


def remove_abandoned(root: str) -> None:
    """Remove below `root` what processes left that were killed while they wrote: scratch files older than an
    hour, so that none is taken from a writer on another machine. One that cannot be removed stays.
    """
    latest = time.time() - _ABANDONED
    for folder, _, names in os.walk(root):
        for path in (os.path.join(folder, name) for name in names if _SCRATCH.fullmatch(name)):
            with suppress(OSError):
                if os.lstat(path).st_mtime < latest:
                    os.unlink(path)


def _link(scratch: str, target: str) -> None:
    """Give a finished file its name, unless the name is taken (then FileExistsError)."""
    try:
        os.link(scratch, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # Mounted object stores have no hard links: claim the name first, then rename over the claim.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(scratch, target)
        except BaseException:
            os.unlink(target)
            raise
