"""Figures of experiments: functions from the frames of `results` to matplotlib Figures, one family a file.

Nothing here needs a display, torch or Ray. A frame without the rows that a figure needs gives MissingRows, a
ValueError that names what is missing.
"""

from sparsepop.figures.accuracy import accuracy_density, accuracy_flops, collapse_rate, front, pareto
from sparsepop.figures.family import Population, load_population
from sparsepop.figures.frames import MissingRows
from sparsepop.figures.gallery import Picture, draw, fitting, gallery
from sparsepop.figures.layers import coefficients, gradients, remaining, thresholds
from sparsepop.figures.methods import gap_schedule, superposition
from sparsepop.figures.population import family_tree, population, trajectories
from sparsepop.figures.published import like, read_published
from sparsepop.figures.rounds import rounds
from sparsepop.figures.runs import load_all, load_runs
from sparsepop.figures.style import encode
from sparsepop.figures.tickets import calibration, loss_line, overlap_matrix, reliability
from sparsepop.figures.time import learning, schedule

__all__ = [
    "MissingRows",
    "Picture",
    "Population",
    "accuracy_density",
    "accuracy_flops",
    "calibration",
    "coefficients",
    "collapse_rate",
    "draw",
    "encode",
    "family_tree",
    "fitting",
    "front",
    "gallery",
    "gap_schedule",
    "gradients",
    "learning",
    "like",
    "load_all",
    "load_population",
    "load_runs",
    "loss_line",
    "overlap_matrix",
    "pareto",
    "population",
    "read_published",
    "reliability",
    "remaining",
    "rounds",
    "schedule",
    "superposition",
    "thresholds",
    "trajectories",
]
