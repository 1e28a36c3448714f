"""Metrics against seqeval, conlleval, Transformers and sentence-transformers.

On random inputs, ill-formed ones included. A difference is the greatest of
any metric, or the number of sentences with other entities.
"""

import itertools
import random
import types
import warnings
from collections.abc import Iterator, Mapping

import conlleval
import numpy as np
import seqeval.metrics
import seqeval.metrics.sequence_labeling
import seqeval.scheme
from sentence_transformers import util
from sentence_transformers.evaluation import InformationRetrievalEvaluator
from transformers.data.metrics import squad_metrics

from bert_jax.tasks.metrics import answers, entities, retrieval

_CORPORA = 300
_LABELS = ("PER", "ORG", "A-B")
_SCHEMES = {"IOB": "BI", "IOBES": "BIES"}
_WORDS = (
  *("The", "a", "An", "cat", "CAT", "犬", "犬の", "É", "e\u0301", "İ", "..."),
  *("don't", "U.S.", "—", "¿qué?", "\u3000", "the-cat", "1,000", "", "an"),
)


def checks() -> Iterator[tuple[str, float, float]]:
  for scheme, prefixes in _SCHEMES.items():
    yield from _entities(scheme, prefixes)
  yield _bilou()
  yield from _answers()
  yield _retrieval()


def _corpus(
  generator: random.Random, prefixes: str
) -> tuple[list[list[str]], list[list[str]]]:
  """Gold and predicted tags, near each other, of some sentences."""
  tags = [f"{prefix}-{label}" for prefix in prefixes for label in _LABELS]
  tags += ["O"] * len(tags)
  gold = [
    generator.choices(tags, k=generator.randint(1, 12))
    for _ in range(generator.randint(1, 6))
  ]
  predicted = [
    [generator.choice(tags) if generator.random() < 0.2 else t for t in tags_]
    for tags_ in gold
  ]
  return gold, predicted


def _entities(scheme: str, prefixes: str) -> Iterator[tuple[str, float, float]]:
  generator = random.Random(0)
  spans, seqeval_worst, conlleval_worst = 0, 0.0, 0.0
  for _ in range(_CORPORA):
    gold, predicted = _corpus(generator, prefixes)
    spans += sum(
      _spans(tags) != seqeval.metrics.sequence_labeling.get_entities(tags)
      for tags in gold + predicted
    )
    ours = _ours(gold, predicted)
    seqeval_worst = max(seqeval_worst, _worst(ours, _seqeval(gold, predicted)))
    theirs = _conlleval(gold, predicted)
    conlleval_worst = max(conlleval_worst, _worst(ours, theirs))
  name = f"entities, {scheme}: {_CORPORA} corpora"
  yield f"{name}, sentences unlike seqeval's", spans, 0
  yield f"{name}, seqeval", seqeval_worst, 1e-12
  yield f"{name}, conlleval", conlleval_worst, 1e-12


def _ids(names: list[str], corpus: list[list[str]]) -> list[np.ndarray]:
  return [np.array([names.index(tag) for tag in tags]) for tags in corpus]


def _spans(tags: list[str]) -> list[tuple[str, int, int]]:
  """Entities as seqeval gives them, their ends included."""
  names = sorted({*tags})
  (ids,) = _ids(names, [tags])
  found = entities.spans(ids.tolist(), entities.parse(names))
  return [(span.label, span.start, span.end - 1) for span in found]


def _ours(
  gold: list[list[str]], predicted: list[list[str]]
) -> dict[str, float]:
  """All metrics, flat, those of a label with its name."""
  names = sorted({*itertools.chain(*gold, *predicted)})
  given = _ids(names, gold), _ids(names, predicted), names
  scores = entities.evaluate(*given)
  for label, some in entities.per_type(*given).items():
    scores |= {f"{label} {name}": value for name, value in some.items()}
  return scores


def _seqeval(
  gold: list[list[str]], predicted: list[list[str]], **options
) -> dict[str, float]:
  """The same from seqeval."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    report = seqeval.metrics.classification_report(
      gold, predicted, output_dict=True, **options
    )
  names = {
    "precision": "precision",
    "recall": "recall",
    "f1": "f1-score",
    "support": "support",
  }
  scores = {"accuracy": seqeval.metrics.accuracy_score(gold, predicted)}
  for label, some in report.items():
    if label == "micro avg":
      scores |= {name: some[names[name]] for name in list(names)[:3]}
    elif not label.endswith(" avg"):
      scores |= {f"{label} {name}": some[names[name]] for name in names}
  return scores


def _conlleval(
  gold: list[list[str]], predicted: list[list[str]]
) -> dict[str, float]:
  """The same from conlleval."""
  lines = []
  for tags in zip(gold, predicted):
    lines += [f"word {right} {got}" for right, got in zip(*tags)] + [""]
  found = conlleval.evaluate(lines)
  right = sum(g == p for tags in zip(gold, predicted) for g, p in zip(*tags))
  words = found["overall"]["tags"]["stats"]["gold"]
  scores = {"accuracy": right / words}
  slots = found["slots"]["chunks"].items()
  slots = {f"{label} ": chunks for label, chunks in slots}
  for before, chunks in {"": found["overall"]["chunks"], **slots}.items():
    counts, rates = chunks["stats"], chunks["evals"]
    if before and not counts["gold"] + counts["pred"]:
      continue
    # The port, unlike the Perl script, has a precision of 1 for nothing found.
    scores[f"{before}precision"] = rates["prec"] if counts["pred"] else 0.0
    scores[f"{before}recall"] = rates["rec"]
    scores[f"{before}f1"] = rates["f1"]
    if before:
      scores[f"{before}support"] = counts["gold"]
  return scores


def _worst(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
  """The greatest difference; infinite if there are not the same scores."""
  if ours.keys() != theirs.keys():
    return float("inf")
  return max(abs(ours[name] - theirs[name]) for name in ours)


def _bilou() -> tuple[str, float, float]:
  """Well-formed BILOU, which seqeval reads in its strict mode only."""
  generator = random.Random(1)
  worst = 0.0
  for _ in range(_CORPORA):
    gold, predicted = (
      [_bilou_tags(generator) for _ in range(8)] for _ in range(2)
    )
    theirs = _seqeval(
      gold, predicted, mode="strict", scheme=seqeval.scheme.BILOU
    )
    worst = max(worst, _worst(_ours(gold, predicted), theirs))
  return f"entities, BILOU: {_CORPORA} corpora, seqeval strict", worst, 1e-12


def _bilou_tags(generator: random.Random) -> list[str]:
  """The tags of eight words, cut into entities and other parts."""
  cuts = [0, *sorted(generator.sample(range(1, 8), 3)), 8]
  tags: list[str] = []
  for start, end in itertools.pairwise(cuts):
    label, inner = generator.choice(["", "PER", "ORG"]), end - start - 2
    if not label:
      tags += ["O"] * (end - start)
    elif inner < 0:
      tags.append(f"U-{label}")
    else:
      tags += [f"B-{label}", *[f"I-{label}"] * inner, f"L-{label}"]
  return tags


def _answers() -> Iterator[tuple[str, float, float]]:
  generator = random.Random(2)
  worst, tied, pairs = 0.0, 0.0, 0
  for _ in range(_CORPORA):
    questions = generator.randint(1, 12)
    gold = [
      [_text(generator) for _ in range(generator.choice((0, 1, 1, 3)))]
      for _ in range(questions)
    ]
    predicted = [
      _text(generator)
      if not answers_ or generator.random() < 0.5
      else generator.choice(answers_).lower()
      for answers_ in gold
    ]
    pairs += questions
    nulls = [generator.random() for _ in gold]
    worst = max(worst, _squad(gold, predicted, nulls, 0.6))
    # Many with the same score.
    nulls = [generator.choice((0.0, 0.5, 1.0)) for _ in gold]
    tied = max(tied, _squad(gold, predicted, nulls, 0.5))
  yield f"answers: {pairs} questions, squad_metrics", worst, 1e-12
  yield f"answers: {pairs} questions, equal null scores", tied, 1e-12


def _text(generator: random.Random) -> str:
  return " ".join(generator.choices(_WORDS, k=generator.randint(0, 4)))


def _squad(
  gold: list[list[str]],
  predicted: list[str],
  null_scores: list[float],
  threshold: float,
) -> float:
  """The greatest difference to the port of the official script."""
  examples = [
    types.SimpleNamespace(qas_id=i, answers=[{"text": t} for t in texts])
    for i, texts in enumerate(gold)
  ]
  theirs = squad_metrics.squad_evaluate(
    examples,
    dict(enumerate(predicted)),
    dict(enumerate(null_scores)),
    no_answer_probability_threshold=threshold,
  )
  theirs = {
    name.replace("HasAns", "has_answer")
    .replace("NoAns", "no_answer")
    .replace("thresh", "threshold"): value
    if name.endswith(("thresh", "total"))
    else value / 100
    for name, value in theirs.items()
  }
  ours = answers.evaluate(gold, predicted, null_scores, threshold)
  return _worst(ours, theirs)


def _retrieval() -> tuple[str, float, float]:
  generator = np.random.default_rng(3)
  queries = generator.normal(size=[300, 16])
  documents = generator.normal(size=[1000, 16])
  documents[:300] += queries
  relevant = [
    {i, *generator.integers(0, 1000, i % 14).tolist()} for i in range(300)
  ]
  names = [str(i) for i in range(1000)]
  evaluator = InformationRetrievalEvaluator(
    dict.fromkeys(names[:300], ""),
    dict.fromkeys(names, ""),
    {names[i]: {names[j] for j in some} for i, some in enumerate(relevant)},
    precision_recall_at_k=[1, 5, 10],
  )
  cosines = util.cos_sim(queries, documents).tolist()
  found = evaluator.compute_metrics(
    [
      [{"corpus_id": names[i], "score": s} for i, s in enumerate(row)]
      for row in cosines
    ]
  )
  theirs = {
    f"{metric}_at_{k}": float(found[f"{metric}@k"][k])
    for metric, k in (
      ("mrr", 10),
      ("recall", 1),
      ("recall", 5),
      ("recall", 10),
      ("ndcg", 10),
    )
  }
  worst = _worst(retrieval.evaluate(queries, documents, relevant), theirs)
  return "retrieval: 300 queries, sentence-transformers", worst, 1e-9
