"""Language and translation models that learn from the rewards of their own answers."""
