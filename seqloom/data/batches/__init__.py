"""Batches of rows: batch n is a pure function of (seed, n)."""
