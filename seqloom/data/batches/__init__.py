"""From rows to batch n, a pure function of (seed, n)."""
