"""Language and translation models that learn which of two answers is preferred."""
