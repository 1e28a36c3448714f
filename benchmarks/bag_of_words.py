"""A bag-of-words baseline for fine-tuned encoders.

`python -m benchmarks.bag_of_words --train F --eval F` reads labelled texts as
`launch.train` does and prints the accuracy of scikit-learn's logistic
regression on TF-IDF features of word unigrams and bigrams or, with
`--characters` (for languages without spaces), of character 1- to 3-grams. The
regularization strength is selected by cross-validation on the training records.

`--remove_stop_words` removes scikit-learn's English stop words first, as is
usual for bags of words, where a frequent word without its place says little. It
is no option for BERT, which reads each word in its context: "not", "to" and
"from" are in that list, and pretraining predicted such words too.
"""

import sys

import numpy as np
from absl import flags
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from bert_jax.data import records
from bert_jax.settings import UserError
from bert_jax.tasks import LABELLED, TASKS, labelled
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.metrics.labels import accuracy
from launch import cli


def define(values: cli.Values) -> None:
  own = {"flag_values": values}
  for name, use in (("train", "train on"), ("eval", "evaluate on")):
    meaning = f"Labelled texts to {use}."
    flags.DEFINE_string(name, None, meaning, required=True, **own)
  flags.DEFINE_bool("header", True, "Whether tables have a header.", **own)
  flags.DEFINE_list("columns", [], "FIELD=COLUMN, such as text=review.", **own)
  meaning = "Whether features are n-grams of characters instead of words."
  flags.DEFINE_bool("characters", False, meaning, **own)
  meaning = "Whether English stop words are removed."
  flags.DEFINE_bool("remove_stop_words", False, meaning, **own)


def _texts(found: records.Records) -> tuple[list[str], list[str]]:
  rows = [row.record for row in found.rows]
  texts = [f"{r['text']} {r.get('pair') or ''}".strip() for r in rows]
  return texts, [fields.label(record["label"]) for record in rows]


def compare(values: cli.Values) -> None:
  if values.characters and values.remove_stop_words:
    raise UserError("--remove_stop_words: does not apply to --characters")
  task = TASKS["classification"]
  data = LABELLED[task.name](
    train=(values.train,),
    eval=(values.eval,),
    header=values.header,
    columns=dict(part.split("=", 1) for part in values.columns),
  )
  found = labelled.read(data, task)
  texts, gold = _texts(found.train)
  kind = {"ngram_range": (1, 2), "token_pattern": r"\S+"}
  if values.remove_stop_words:
    kind["stop_words"] = "english"
  if values.characters:
    kind = {"ngram_range": (1, 3), "analyzer": "char"}
  vectorizer = TfidfVectorizer(min_df=2, sublinear_tf=True, **kind)
  strengths = {"logisticregression__C": [0.1, 1.0, 10.0, 100.0]}
  model = GridSearchCV(
    make_pipeline(vectorizer, LogisticRegression(max_iter=2000)), strengths
  )
  model.fit(texts, gold)
  asked, expected = _texts(found.evaluation)
  print(f"accuracy {accuracy(model.predict(asked) == np.array(expected)):.4f}")


if __name__ == "__main__":
  sys.exit(cli.run(compare, define))
