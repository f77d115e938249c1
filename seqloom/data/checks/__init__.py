"""Checks that find suspicious rows."""
