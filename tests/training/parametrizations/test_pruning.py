"""Runs that prune weights, heads and units."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bert_jax
from bert_jax import trees
from bert_jax.compression import structure
from bert_jax.model import Model
from bert_jax.training.mesh import partitioning
from bert_jax.training.mesh.meshes import MeshConfig
from bert_jax.training.optim import pruning as masks
from bert_jax.training.parametrizations import gates, parametrization, ranking
from bert_jax.training.parametrizations.pruning import PruningConfig
from bert_jax.training.recipe import Recipe
from tests import pytrees, small
from tests.errors import user_error
from tests.tasks import cases
from tests.tasks.learnable import train
from tests.training.finetune_runs import held_out, recipe

WEIGHTS = {"structures": (), "targets": (r"encoder/.*/kernel",)}
TEXTS = ["the array", "a list of names"]


def part(**options):
  return PruningConfig(**options).parametrization(model().config)


def model():
  return cases.model("classification")


def params():
  return model().params


def pruned(found, own, progress=1.0):
  """The parameters that a progress gives."""
  merge = jax.jit(found.merge)
  return trees.flatten(merge(params(), {**own, "progress": progress}))


def test_the_lowest_of_all_arrays_reach_a_goal():
  rng = np.random.default_rng(0)
  scores = [rng.normal(size=n).astype(np.float32) for n in (7, 30, 1)]
  scores[0][3] = np.inf
  lowest = jax.jit(ranking.lowest, static_argnums=1)
  for goal in (0, 1, 5, 20, 60, 1000):
    costs = (3, 1, 5)
    found = lowest(scores, costs, goal)
    order = sorted(
      (value, cost) for x, cost in zip(scores, costs) for value in x
    )
    cost, limit = 0, -np.inf
    for value, own in order:
      if cost < goal and value < np.inf:
        cost, limit = cost + own, value
    for chosen, x in zip(found, scores):
      np.testing.assert_array_equal(chosen, x <= limit)


def test_gates_are_hard_concrete():
  alpha = np.linspace(-4, 4, 5)
  probability = 1 / (1 + np.exp(-(alpha - 2 / 3 * np.log(0.1 / 1.1))))
  np.testing.assert_allclose(
    gates.probability(jnp.asarray(alpha)), probability, rtol=1e-5
  )
  drawn = gates.sample(jnp.tile(alpha, (4000, 1)), jax.random.key(0))
  assert np.all((drawn >= 0) & (drawn <= 1))
  np.testing.assert_allclose((drawn > 0).mean(0), probability, atol=0.03)
  mean = np.clip(1.2 / (1 + np.exp(-alpha)) - 0.1, 0, 1)
  np.testing.assert_allclose(gates.mean(jnp.asarray(alpha)), mean, rtol=1e-5)


def test_the_smallest_weights_of_all_targets_go():
  found = part(method="magnitude", sparsity=0.3, **WEIGHTS)
  kernels = {
    path: np.abs(x)
    for path, x in trees.flatten(params()).items()
    if path.startswith("encoder/") and path.endswith("/kernel")
  }
  values = np.concatenate([x.ravel() for x in kernels.values()])
  limit = np.sort(values)[int(np.ceil(0.3 * values.size)) - 1]
  made = pruned(found, {})
  for path, x in trees.flatten(params()).items():
    wanted = x
    if path in kernels:
      wanted = np.where(kernels[path] > limit, x, 0)
    np.testing.assert_array_equal(made[path], wanted)
  # At first nothing is pruned.
  pytrees.assert_equal(pruned(found, {}, 0.0), trees.flatten(params()))


@pytest.mark.parametrize("method", ["magnitude", "movement"])
def test_a_pattern_leaves_the_highest_of_each_group(method):
  found = part(method=method, pattern="1:4", **WEIGHTS)
  own = found.initial(jax.random.key(0), params())
  made, flat = pruned(found, own), trees.flatten(params())
  scores = trees.flatten(own.get("scores", {}))
  for path, x in flat.items():
    if not (path.startswith("encoder/") and path.endswith("/kernel")):
      continue
    groups = made[path].reshape(-1, 4, x.shape[1])
    np.testing.assert_array_equal((groups != 0).sum(1), 1)
    ranked = np.asarray(scores.get(path, np.abs(x)))
    best = ranked.reshape(groups.shape).argmax(1)
    np.testing.assert_array_equal((groups != 0).argmax(1), best)
  assert found.metrics(params(), {**own, "progress": 1.0}) == {"sparsity": 0.75}


def test_gradients_of_scores_are_of_the_weights_movement():
  found = part(method="movement", sparsity=0.5, **WEIGHTS)
  own = {**found.initial(jax.random.key(0), params()), "progress": 1.0}
  rng = np.random.default_rng(1)
  gradient = jax.tree.map(lambda x: rng.normal(size=x.shape), params())

  def loss(params, own):
    made = found.merge(params, own)
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, made, gradient)))

  of_params, of_own = jax.grad(loss, (0, 1))(params(), own)
  made, weights = pruned(found, own), trees.flatten(params())
  wanted, of_params = trees.flatten(gradient), trees.flatten(of_params)
  for path, score in trees.flatten(of_own["scores"]).items():
    np.testing.assert_allclose(score, wanted[path] * weights[path], rtol=1e-5)
    np.testing.assert_allclose(
      of_params[path], wanted[path] * (made[path] != 0), rtol=1e-5
    )
  assert of_own["progress"] == 0


def test_the_multipliers_drive_gates_to_the_target_until_it_is_reached():
  found = part(method="l0", sparsity=0.6, begin=0.0, end=0.8)
  own = {"pruning": found.initial(jax.random.key(0), params())}
  # The expected sparsity, of the probabilities of Louizos et al., equation 12.
  width, lost, total = model().config.head_width, 0.0, 0
  for name, cost in (("heads", 4 * width), ("units", 2)):
    alpha = np.asarray(own["pruning"][name]["layer_0"], np.float64)
    lost += cost * np.sum(1 / (1 + np.exp(alpha - 2 / 3 * np.log(0.1 / 1.1))))
    total += cost * len(alpha)
  metrics = found.metrics(params(), own["pruning"])
  assert metrics["expected_sparsity"] == pytest.approx(lost / total, rel=1e-4)
  steps = 200
  optimizer = masks.make(found, 0.1, steps)
  zeros = jax.tree.map(jnp.zeros_like, own)

  @jax.jit
  def step(own, state):
    updates, state = optimizer.update(zeros, state, own)
    return jax.tree.map(jnp.add, own, updates), state

  state, progress = optimizer.init(own), []
  for count in range(1, steps + 1):
    before = own["pruning"]
    own, state = step(own, state)
    progress.append(float(own["pruning"]["progress"]))
    if count == 40:  # A quarter of the way.
      assert progress[-1] == pytest.approx(1 - 0.75**3, abs=1e-6)
    if count > 160:
      pytrees.assert_equal(before, own["pruning"])
  assert progress.index(1.0) + 1 <= found.settled(steps) == 160
  metrics = found.metrics(params(), own["pruning"])
  assert metrics["expected_sparsity"] == pytest.approx(0.6, abs=0.1)
  assert metrics["sparsity"] == pytest.approx(0.6, abs=0.02)


def test_a_run_prunes_heads_and_units_which_are_removed(home, tmp_path):
  config = recipe(
    home,
    steps=4,
    pruning={"method": "l0", "sparsity": 0.5, "end": 0.7},
    evaluation={"every": 1, "metric": "accuracy", "examples": 0},
  )
  values, _ = train(config, tmp_path)
  # Only evaluations after the target was reached may choose the best.
  sparsity = {row["step"]: row["sparsity"] for row in held_out(tmp_path)}
  assert sparsity[0] == 0 and values["sparsity"] in (sparsity[3], sparsity[4])
  assert 0.5 <= sparsity[3] < 0.52
  model = bert_jax.load(tmp_path)
  assert "pruning" not in model.params
  heads, units = structure.zeros(model)
  assert heads and units
  smaller = structure.remove(model, heads, units)
  assert structure.zeros(smaller) == ({}, {})
  np.testing.assert_allclose(
    smaller.encode(TEXTS).last_hidden_state,
    model.encode(TEXTS).last_hidden_state,
    atol=1e-6,
  )


@pytest.mark.parametrize("method", ["movement", "magnitude"])
def test_heads_and_units_are_masked_as_a_whole(method):
  found = part(method=method, sparsity=0.5)
  own = found.initial(jax.random.key(0), params())
  made = Model(model().task, trees.unflatten(pruned(found, own)))
  heads, units = structure.zeros(made)
  layer, flat = "encoder/layer_0", trees.flatten(params())
  for name, block, chosen in (
    ("heads", "attention", heads),
    ("units", "feed_forward", units),
  ):
    if method == "movement":
      scores = own[name]["layer_0"]
    else:
      kernel = np.asarray(flat[f"{layer}/{block}/output/kernel"])
      count = model().config.num_heads if name == "heads" else len(kernel)
      scores = np.square(kernel).reshape(count, -1).mean(1)
    gone = chosen.get(0, [])
    assert {*gone} == {*np.argsort(scores)[: len(gone)]}
  removed = structure.remove(made, heads, units)
  cost = {path: x.size for path, x in trees.flatten(removed.params).items()}
  kernels = [
    path for path in flat if path.startswith(layer) and "kernel" in path
  ]
  left = sum(map(cost.get, kernels)) / sum(flat[path].size for path in kernels)
  assert 0.48 <= left <= 0.5


def test_own_parameters_lie_on_any_mesh():
  layout = partitioning.make_layout(MeshConfig())
  for found in (
    part(method="l0", sparsity=0.5),
    part(method="movement", sparsity=0.5, **WEIGHTS),
  ):
    partitioning.shardings(layout, {"pruning": found.shapes(params())})


WRONG = [
  ({"method": "l1"}, "method: expected one of l0, magnitude, movement, got"),
  ({"method": "l0"}, "sparsity: expected a share above 0"),
  ({"sparsity": 1.0}, r"sparsity: expected in \[0, 1\)"),
  ({"structures": ("rows",)}, "structures: expected one of heads, units"),
  ({"begin": 0.6}, "0 <= begin < end <= 1, got 0.6 and 0.6"),
  ({"method": "l0", "structures": ()}, "l0 prunes heads and units"),
  ({"method": "l0", "pattern": "2:4"}, "single weights have patterns"),
  (
    {"method": "magnitude", "pattern": "4:2", "structures": ()},
    "expected n:m with 0 < n < m, such as 2:4, got '4:2'",
  ),
  (
    {
      "method": "magnitude",
      "pattern": "2:4",
      "structures": (),
      "sparsity": 0.5,
    },
    "the pattern 2:4 gives it",
  ),
  (
    {"method": "magnitude", "pattern": "2:5", "structures": ()},
    "2:5 does not divide the 16 inputs of encoder/layer_0/attention/key",
  ),
  (
    {"method": "magnitude", "sparsity": 0.5, "structures": (), "targets": ".*"},
    "expected kernels of dense layers, got",
  ),
  (
    {"method": "l0", "sparsity": 0.9},
    "0.9 cannot be reached; with one of the heads and one of the units left in"
    " each layer it is at most 0.734",
  ),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_settings(home, tmp_path, options, message):
  with user_error(message):
    train(recipe(home, pruning=options), tmp_path)


def test_encoders_that_cannot_be_pruned():
  config = PruningConfig(method="l0", sparsity=0.5)
  shared = dataclasses.replace(small.ENCODER, shared_layers=True)
  with user_error("layers of this encoder share their parameters"):
    config.parametrization(shared)
  relative = dataclasses.replace(small.ENCODER, relative_buckets=32)
  with user_error("heads of an encoder with relative positions"):
    config.parametrization(relative)


def test_averages_and_budgets_of_time_are_refused(home):
  options = {"method": "l0", "sparsity": 0.5}
  for changes in ({"ema": {"decay": 0.9}}, {"hours": 1.0}):
    with user_error("pruning.method: does not go with ema.decay"):
      Recipe.from_dict(recipe(home, pruning=options, **changes))


def test_gates_are_random_in_training_until_the_target_is_reached():
  found = part(method="l0", sparsity=0.5)
  own = found.initial(jax.random.key(0), params())
  merge = jax.jit(
    lambda own, key: parametrization.merge(
      {**params(), "pruning": own}, (found,), key
    )["encoder"]["layer_0"]["feed_forward"]["output"]["kernel"]
  )

  def drawn(progress, seed):
    own["progress"] = progress
    return np.asarray(merge(own, jax.random.key(seed)))

  np.testing.assert_array_equal(drawn(0.5, 0), drawn(0.5, 0))
  assert not np.array_equal(drawn(0.5, 0), drawn(0.5, 1))
  np.testing.assert_array_equal(drawn(1.0, 0), drawn(1.0, 1))
