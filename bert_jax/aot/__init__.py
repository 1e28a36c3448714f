"""Ahead-of-time (AOT) analysis: compiles updates for TPU slices without TPUs.

`analysis` compiles the update of a recipe and reads memory, communication and
estimated time from the program; `scaling` extrapolates them.
"""
