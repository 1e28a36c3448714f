"""Engines that run an exported model without JAX."""
