"""Pixels <-> arrays: what text/ is to text."""
