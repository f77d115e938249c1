"""Models that read whole texts."""
