"""Everyday phrases, generated from CLDR and RBNF."""
