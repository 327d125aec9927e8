"""Batches, phases, optimisation and exact resume."""
