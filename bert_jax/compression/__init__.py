"""Smaller and faster models of a model: functions from model to model."""
