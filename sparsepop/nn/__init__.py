"""Building blocks that networks and methods share."""

from sparsepop.nn.act import Act

__all__ = ["Act"]
