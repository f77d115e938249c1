"""Everyday phrases, made from CLDR and RBNF."""
