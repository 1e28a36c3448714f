"""Parameters by path: `encoder/layer_0/attention/query/kernel`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax


def path_name(path: tuple[Any, ...]) -> str:
  """A key path of `jax.tree_util` as names joined by `/`."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def flatten(tree: Any) -> dict[str, Any]:
  """Every leaf of `tree` by its path."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {path_name(path): leaf for path, leaf in leaves}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """A nested dict, from its leaves by their paths."""
  tree: dict[str, Any] = {}
  for path, leaf in flat.items():
    *modules, name = path.split("/")
    node = tree
    for module in modules:
      node = node.setdefault(module, {})
    node[name] = leaf
  return tree


def map_with_path(function: Callable[[str, Any], Any], tree: Any) -> Any:
  """`jax.tree.map`, but `function` takes the path's name too."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: function(path_name(path), leaf), tree
  )


def count(tree: Any) -> int:
  """The number of scalars in `tree`; its leaves may be shape structs."""
  return sum(leaf.size for leaf in jax.tree.leaves(tree))
