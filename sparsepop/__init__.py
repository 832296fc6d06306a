"""Populations and ensembles of sparse neural networks, trained and exchanged on Ray."""
