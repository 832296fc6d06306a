"""Reading and writing whole objects of a store that pyarrow knows, where nothing can be renamed or locked."""

from __future__ import annotations

import errno
import posixpath
from typing import Any
from uuid import uuid4

from pyarrow import fs

from sparsepop.storage.local import temporary


def is_there(place: Any, target: str) -> bool:
    """Whether a file or a folder is there."""
    return place.get_file_info(target).type != fs.FileType.NotFound


def put(place: Any, target: str, data: bytes) -> None:
    """One object, visible when it is whole."""
    # compression=None: pyarrow would otherwise compress by the name's ending.
    try:
        stream = place.open_output_stream(target, compression=None)
    except FileNotFoundError:  # buckets need no folders, other file systems do
        place.create_dir(posixpath.dirname(target), recursive=True)
        stream = place.open_output_stream(target, compression=None)
    with stream:
        stream.write(data)


def get(place: Any, target: str) -> bytes:
    """One object as somebody wrote it.

    pyarrow asks for an object's size before its content: when another is written between the two, it
    returns the beginning of that one, or fills up with zeros. So the object must be the same afterwards.
    """
    while True:
        with place.open_input_file(target) as stream:
            version = stream.metadata()
            data = stream.read()
        if not version:  # no store that tells versions apart
            return data
        with place.open_input_file(target) as stream:
            if stream.metadata() == version:
                return data


def put_once(place: Any, target: str, data: bytes) -> None:
    """One object that nobody else has put or will put here; FileExistsError otherwise.

    pyarrow has no conditional put. This is the splitter of Moir and Anderson (1995, "Wait-free algorithms for
    fast, long-lived renaming", figure 2), which needs only reads and writes that are seen at once, as S3 and
    GCS promise: of any number of writers at most one succeeds. One that is alone does; of several at the same
    time perhaps none, and after an attempt that died half-way nobody ever does. So FileExistsError does not
    say that there is something to read: a caller goes to another place, or writes over this one. Two hidden
    objects stay.
    """
    folder, name = posixpath.split(target)
    last, door = (posixpath.join(folder, temporary(f"{name}.{each}")) for each in ("last", "door"))
    me = uuid4().hex.encode()
    if not is_there(place, target):
        put(place, last, me)
        if not is_there(place, door):
            put(place, door, b"")
            if get(place, last) == me and not is_there(place, target):
                put(place, target, data)
                return
    raise FileExistsError(errno.EEXIST, "already there", name)
