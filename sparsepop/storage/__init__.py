"""Files on a local disk or in an object store: one way to read and write them, atomically."""

from sparsepop.storage.errors import StorageError
from sparsepop.storage.local import temporary
from sparsepop.storage.place import Storage
from sparsepop.storage.several import side_by_side

__all__ = ["Storage", "StorageError", "side_by_side", "temporary"]
