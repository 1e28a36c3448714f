"""Writes checkpoints with real TensorFlow: run by an interpreter that has it.

  python write_checkpoints.py FOLDER

Beside each checkpoint, `NAME.ckpt.*`, are the values that its variables were
given: `NAME.npz` has their bytes by name (NumPy's files have no bfloat16), and
`NAME.json` the type and the lengths of the axes of each. This file imports
nothing of bert_jax.
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
HIDDEN, INNER, VOCABULARY, POSITIONS, LAYERS = 24, 96, 501, 64, 3


def bert_shapes() -> dict[str, tuple[int, ...]]:
  """The variables of `run_pretraining.py`'s model, without the optimizer's."""
  dense = {
    "attention/self/query": (HIDDEN, HIDDEN),
    "attention/self/key": (HIDDEN, HIDDEN),
    "attention/self/value": (HIDDEN, HIDDEN),
    "attention/output/dense": (HIDDEN, HIDDEN),
    "intermediate/dense": (HIDDEN, INNER),
    "output/dense": (INNER, HIDDEN),
  }
  shapes = {
    "bert/embeddings/word_embeddings": (VOCABULARY, HIDDEN),
    "bert/embeddings/token_type_embeddings": (2, HIDDEN),
    "bert/embeddings/position_embeddings": (POSITIONS, HIDDEN),
    "cls/predictions/output_bias": (VOCABULARY,),
    "cls/seq_relationship/output_weights": (2, HIDDEN),
    "cls/seq_relationship/output_bias": (2,),
  }
  modules = {
    "bert/pooler/dense": (HIDDEN, HIDDEN),
    "cls/predictions/transform/dense": (HIDDEN, HIDDEN),
  }
  norms = ["bert/embeddings", "cls/predictions/transform"]
  for layer in range(LAYERS):
    scope = f"bert/encoder/layer_{layer}"
    modules |= {f"{scope}/{name}": shape for name, shape in dense.items()}
    norms += [f"{scope}/attention/output", f"{scope}/output"]
  for name, shape in modules.items():
    shapes |= {f"{name}/kernel": shape, f"{name}/bias": shape[1:]}
  for name in norms:
    for leaf in ("beta", "gamma"):
      shapes[f"{name}/LayerNorm/{leaf}"] = (HIDDEN,)
  return shapes


def pretraining_values(rng: np.random.Generator) -> dict[str, np.ndarray]:
  """BERT's variables with Adam's slots and the step, as training saves them."""
  values = {"global_step": np.array(1_000_000, np.int64)}
  for name, shape in bert_shapes().items():
    for slot in ("", "/adam_m", "/adam_v"):
      values[name + slot] = rng.normal(size=shape).astype(np.float32)
  return values


def other_values(rng: np.random.Generator) -> dict[str, np.ndarray]:
  """Every type and shape that could make a difference."""
  values = {
    f"types/{np.dtype(dtype).name}": rng.integers(0, 100, (3, 5)).astype(dtype)
    for dtype in (
      *(np.float32, np.float64, np.float16, tf.bfloat16.as_numpy_dtype),
      *(np.int8, np.int16, np.int32, np.int64),
      *(np.uint8, np.uint16, np.uint32, np.uint64),
    )
  }
  floats = [np.nan, np.inf, -np.inf, -0.0, 1e-45, np.float32(1) / 3]
  return values | {
    "types/bool": rng.random((3, 5)) < 0.5,
    "shapes/scalar": np.array(-2.5, np.float32),
    "shapes/empty": np.zeros((0, 4), np.float32),
    "shapes/five": rng.normal(size=(2, 1, 3, 2, 2)).astype(np.float32),
    "values/special": np.array(floats, np.float32),
    "Ünï/ćodé_日本": np.arange(3, dtype=np.int32),
    "large": rng.normal(size=(1500, 2000)).astype(np.float32),
  }


def save_graph(
  folder: pathlib.Path,
  name: str,
  values: dict[str, np.ndarray],
  devices: int = 1,
  partitions: int = 0,
  axis: int = 0,
) -> None:
  """A TF1 `Saver`'s checkpoint: with several devices, a data file for each."""
  with tf.Graph().as_default():
    assigned, fed = [], {}
    for number, (key, value) in enumerate(values.items()):
      cut = partitions and value.ndim > axis and value.shape[axis] >= partitions
      with tf.device(f"/cpu:{number % devices}"):
        variable = v1.get_variable(
          key,
          value.shape,
          tf.as_dtype(value.dtype),
          v1.zeros_initializer(),
          partitioner=(
            v1.fixed_size_partitioner(partitions, axis) if cut else None
          ),
          use_resource=bool(number % 2),
        )
        parts, pieces = [variable], [value]
        if cut:
          parts = list(variable)
          ends = np.cumsum([part.shape[axis] for part in parts])
          pieces = np.split(value, ends[:-1], axis)
        for part, piece in zip(parts, pieces):
          given = v1.placeholder(part.dtype.base_dtype, part.shape)
          assigned.append(v1.assign(part, given).op)
          fed[given] = piece
    config = v1.ConfigProto(device_count={"CPU": devices})
    with v1.Session(config=config) as session:
      session.run(assigned, fed)
      v1.train.Saver(sharded=devices > 1).save(
        session, str(folder / f"{name}.ckpt"), write_meta_graph=False
      )
  keep(folder, name, values)


def save_objects(folder: pathlib.Path, values: dict[str, np.ndarray]) -> None:
  """A TF2 `Checkpoint`, whose keys are paths of attributes."""
  root = tf.Module()
  root.parts = [tf.Variable(value) for value in values.values()]
  tf.train.Checkpoint(model=root).write(str(folder / "objects.ckpt"))
  suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
  keep(
    folder,
    "objects",
    {
      f"model/parts/{number}{suffix}": value
      for number, value in enumerate(values.values())
    },
  )


def keep(
  folder: pathlib.Path, name: str, values: dict[str, np.ndarray]
) -> None:
  contents = {
    key: np.frombuffer(value.tobytes(), np.uint8)
    for key, value in values.items()
  }
  np.savez(folder / f"{name}.npz", **contents)
  kinds = {
    key: [value.dtype.name, *value.shape] for key, value in values.items()
  }
  (folder / f"{name}.json").write_text(json.dumps(kinds))


def main() -> None:
  folder = pathlib.Path(sys.argv[1])
  rng = np.random.default_rng(0)
  bert = pretraining_values(rng)
  others = other_values(rng)
  save_objects(folder, others)
  v1.disable_eager_execution()
  save_graph(folder, "bert", bert)
  save_graph(folder, "bert_sharded", bert, devices=4)
  save_graph(folder, "bert_partitioned", bert, devices=3, partitions=5)
  save_graph(folder, "bert_columns", bert, partitions=3, axis=1)
  ascii_names = {k: v for k, v in others.items() if k.isascii()}
  save_graph(folder, "types", ascii_names)


if __name__ == "__main__":
  main()
