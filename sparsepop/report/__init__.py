"""One HTML page that tells all about an experiment, from its tables alone: no network, no script."""

from sparsepop.report.page import render

__all__ = ["render"]
