"""The error of a place that does not work, and what to do about the usual causes."""

from __future__ import annotations

_USUAL = "grant access or free space there, or choose another place for the results"
_UNOPENED = "give a local folder, or a URI that pyarrow can open (s3://bucket/folder, gs://bucket/folder)"
_REMEDIES = (
    ("NO_SUCH_BUCKET", "make the bucket first, or correct its name"),
    ("PermanentRedirect", "give the bucket's region (?region=..)"),
    (
        "resolving region",
        "give the bucket's region (?region=..), or endpoint_override for a store that is not AWS",
    ),
    ("NETWORK_CONNECTION", "check endpoint_override, scheme and the network"),
    ("INVALID_ACCESS_KEY_ID", "check AWS_ACCESS_KEY_ID, or the profile or role of this machine"),
    ("SIGNATURE", "check AWS_SECRET_ACCESS_KEY and this machine's clock"),
    ("ACCESS_DENIED", "grant this machine's key, profile or role access (AWS_ACCESS_KEY_ID, AWS_PROFILE)"),
    (
        "CompleteMultipartUpload",
        "add allow_delayed_open=true to the URI, which writes small files in one request",
    ),
)


class StorageError(OSError):
    """A place that cannot be opened, read or written, with the cause and the remedy in one line."""


def explained(what: str, place: object, error: Exception) -> StorageError:
    """`error` as a StorageError that says what could not be done where, why, and what helps."""
    cause = " ".join(str(error).split())
    usual = _UNOPENED if what == "open" else _USUAL
    remedy = next((remedy for sign, remedy in _REMEDIES if sign in cause), usual)
    return StorageError(f"cannot {what} {place}: {cause}; {remedy}")
