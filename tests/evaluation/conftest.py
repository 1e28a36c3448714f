import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def compile_fast():
  """Here compiling takes all the time, and running none."""
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)
