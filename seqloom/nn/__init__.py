"""Layers. None of them knows whether it is being trained, served or inspected."""
