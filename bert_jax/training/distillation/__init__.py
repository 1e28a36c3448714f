"""Distillation: a student learns what a teacher makes of the same batches.

The teacher's outputs are further targets of a batch, `teacher/...`, which the
loss compares with those of the student. They are computed for each batch, or
once for all examples (`cache`).
"""
