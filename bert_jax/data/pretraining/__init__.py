"""Pretraining examples: planning, pairing, masking and packing."""
