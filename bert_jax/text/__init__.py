"""Tokenizers, and the training of WordPiece vocabularies."""

from bert_jax.text.loading import load

__all__ = ["load"]
