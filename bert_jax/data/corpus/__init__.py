"""Preparation of a tokenized corpus, and reading it."""
