"""Ahead-of-time (AOT) analysis: compiles updates for TPU slices without TPUs.

`lowering` lowers the update of a recipe, `analysis` reads memory, communication
and estimated time from the compiled program, and `scaling` extrapolates them.
"""
