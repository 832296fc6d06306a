"""What a member is called in files, by Tune, and to loggers."""

from __future__ import annotations


def member_name(member: int) -> str:
    """The name of a member, equal in all places; the parts of tables have names of their own (`Writer`)."""
    return f"m{member:04d}"


def member_of(name: str) -> int:
    """The member that `member_name` has given this name."""
    return int(name.removeprefix("m"))
