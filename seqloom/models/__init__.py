"""Encoders, decoders, and the assemblies of them."""
