import jax
import jax.numpy as jnp
import numpy as np

from tests import compiling


def test_reductions_over_many_rows_are_right():
  """jax 0.10.2 fails this on CPUs (jax issue 39103), silently.

  Row by row a matrix product feeds a sum of squares; beyond 32,768 rows the
  compiled result was that of another row.
  """
  rows = jnp.zeros((40_000, 3), jnp.float32).at[:, 0].set(jnp.arange(40_000))

  @jax.jit
  def squared_norms(rows):
    return jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2))(rows)

  expected = np.arange(40_000, dtype=np.float64) ** 2
  with compiling.as_by_default():
    found = squared_norms(rows)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
