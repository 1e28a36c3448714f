"""A server of models over HTTP: batching, hot updates, limits, metrics."""
