"""Readers, corpora, batches and checks. Data never sees a model."""
