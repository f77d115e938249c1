"""Models of running text."""
