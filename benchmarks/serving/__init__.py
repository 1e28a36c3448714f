"""The server under load; see `__main__.py`."""
