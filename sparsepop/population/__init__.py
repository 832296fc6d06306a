"""Populations: who learns from whom (`rules`), and the Ray side that carries it out."""
