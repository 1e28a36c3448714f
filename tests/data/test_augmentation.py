import collections

import pytest

import bert_jax
from bert_jax.data import augmentation
from bert_jax.data.augmentation import AugmentationConfig, MaskedLanguageModel
from bert_jax.settings import from_dict
from bert_jax.tasks import labelled
from bert_jax.training import inference
from bert_jax.training.recipe import Recipe
from tests import small
from tests.errors import user_error
from tests.interop import folders
from tests.tasks import learnable

# All words differ, so that one can tell which are left and where.
WORDS = [f"word{i}" for i in range(4000)]


def augment(records, **config):
  entities = labelled._entities
  return augmentation.augment(records, AugmentationConfig(**config), entities)


def changed(record, **config):
  (copy,) = augment([record], copies=1, **config)
  return copy


def test_about_the_share_of_words_is_left_out():
  left = changed({"text": " ".join(WORDS)}, dropout=0.2)["text"].split()
  assert len(left) / len(WORDS) == pytest.approx(0.8, abs=0.03)
  assert left == sorted(left, key=WORDS.index)


def test_about_the_share_of_words_is_swapped_with_the_next_one():
  words = changed({"text": " ".join(WORDS)}, swap=0.1)["text"].split()
  assert sorted(words) == sorted(WORDS)
  # A swap moves one word back; one that is swapped on goes further.
  places = {word: place for place, word in enumerate(WORDS)}
  back = sum(place == places[word] - 1 for place, word in enumerate(words))
  assert back / len(WORDS) == pytest.approx(0.1, abs=0.02)


def test_tags_stay_with_their_words():
  record = {
    "words": WORDS,
    "tags": [f"tag of {w}" for w in WORDS],
    "label": "x",
  }
  copy = changed(record, dropout=0.3, swap=0.3)
  assert copy["tags"] == [f"tag of {word}" for word in copy["words"]]
  assert 0 < len(copy["words"]) < len(WORDS)
  assert copy["label"] == "x"
  assert record["words"] == WORDS


# Two entities that only an O keeps apart, and two that follow each other.
ENTITIES = {
  "IOB1": "I-PER I-PER O I-PER B-PER I-PER O I-LOC O",
  "IOB2": "B-PER I-PER O B-PER B-PER I-PER O B-LOC O",
  "IOBES": "B-PER E-PER O S-PER B-PER E-PER O S-LOC O",
}


@pytest.mark.parametrize("scheme", ENTITIES)
def test_entities_stay_whole(scheme):
  tags = ENTITIES[scheme].split()
  record = {"words": WORDS[: len(tags)], "tags": tags}
  copies = augment([record] * 20, copies=5, dropout=0.3, swap=0.3)
  assert len(copies) > 80

  def entities(record):
    places = labelled._entities(record["tags"])
    return {tuple(record["words"][begin:end]) for begin, end in places}

  whole = entities(record)
  assert len(whole) == 4
  found = [entities(copy) for copy in copies]
  assert all(entities <= whole for entities in found)
  assert set().union(*found) == whole
  moved = [c for c in copies if c["words"] != sorted(c["words"])]
  assert moved


@pytest.mark.parametrize(
  "record",
  [{"text": "one two"}, {"text": "one"}, {"words": ["one"], "tags": ["O"]}],
)
def test_at_least_one_word_stays(record):
  made = augment([record], copies=50, dropout=0.99)
  assert all(copy.get("text") or copy.get("words") for copy in made)
  # Copies like their record are left out.
  assert record not in made
  assert bool(made) == (record == {"text": "one two"})


def test_both_texts_change_and_all_else_stays():
  record = {"text": " ".join(WORDS), "pair": " ".join(WORDS), "label": 3}
  copy = changed(record, dropout=0.1)
  assert copy["label"] == 3
  assert record["text"] != copy["text"] != copy["pair"] != record["pair"]
  assert changed({**record, "pair": None}, dropout=0.1)["pair"] is None


def test_copies_depend_on_the_seed_alone():
  records = [{"text": f"{a} {b} c d e"} for a in "ab" for b in "cd"]
  one, same, other = (
    augment(records, copies=3, dropout=0.3, swap=0.3, seed=seed)
    for seed in (0, 0, 1)
  )
  assert one == same != other
  assert 8 < len(one) <= 12
  assert len({copy["text"] for copy in one}) > 8
  # Those of a record do not depend on the records after it.
  first = augment(records[:1], copies=3, dropout=0.3, swap=0.3)
  assert one[: len(first)] == first


def test_without_copies_nothing_is_made():
  assert augment([{"answers": []}]) == []


@pytest.mark.parametrize(
  "record", [{"question": "a", "context": "b", "answers": []}, {"image": "x"}]
)
def test_what_cannot_be_changed_is_refused(record):
  with user_error("expected records with text or words") as e:
    augment([record], copies=1, dropout=0.1)
  assert str(e.value).startswith("config.data.augmentation: ")


@pytest.mark.parametrize(
  ("section", "message"),
  [
    ({"copies": -1}, "copies: expected at least 0, got -1"),
    ({"copies": 1}, "copies: expected together with dropout, swap"),
    ({"dropout": 1.0}, "dropout: expected at least 0 and less than 1, got 1.0"),
    ({"swap": -0.1}, "swap: expected at least 0"),
    ({"masked_lm": float("nan")}, "masked_lm: expected at least 0"),
    ({"masked_lm": 0.1}, "model: expected together with masked_lm"),
    ({"model": "x"}, "model: expected together with masked_lm"),
    ({"alone": True}, "alone: goes with masked_lm"),
    ({"drop": 0.1}, "drop: unknown key; did you mean 'dropout'"),
  ],
)
def test_the_section_is_checked(section, message):
  where = "config.data.augmentation"
  with user_error(f"{where}.{message}"):
    from_dict(AugmentationConfig, section, where)


def substituted(records, candidates, share=0.5, **more):
  """Copies by a model that finds these words likely everywhere."""
  asked = []

  def words(texts):
    asked.extend(texts)
    return [[candidates] * text.split().count("[MASK]") for text in texts]

  model = MaskedLanguageModel("[MASK]", words)
  section = {"masked_lm": share, "model": "unused", "loaded_model": model}
  return augment(records, **{"copies": 1, **section, **more}), asked


def test_only_chosen_words_are_replaced_and_never_by_themselves():
  record = {"text": " ".join(WORDS), "pair": "Other", "label": "x"}
  (copy,), asked = substituted([record], ["other", "new"], share=0.25)
  new = copy["text"].split()
  assert len(new) == len(WORDS)
  counts = collections.Counter(
    word for word, old in zip(new, WORDS, strict=True) if word != old
  )
  assert counts.total() / len(WORDS) == pytest.approx(0.25, abs=0.03)
  assert min(counts["other"], counts["new"]) > 300
  assert copy["pair"] in ("Other", "new")
  masked = asked[0].split()
  assert [w == "[MASK]" for w in masked] == [w != o for w, o in zip(new, WORDS)]


def test_words_that_are_masked_alone_see_all_others():
  words = WORDS[:12]
  copies, asked = substituted(
    [{"text": " ".join(words)}], ["new"], alone=True, copies=8
  )
  assert len(copies) == 8
  # Of each word once, whatever the number of copies.
  assert len(asked) == len({*asked}) == 12
  for text in asked:
    (place,) = [i for i, w in enumerate(text.split()) if w == "[MASK]"]
    assert text.split() == [*words[:place], "[MASK]", *words[place + 1 :]]
  replaced = [text["text"].split().count("new") for text in copies]
  assert len({*replaced}) > 1
  assert sum(replaced) / (8 * 12) == pytest.approx(0.5, abs=0.15)


def test_words_and_their_tags_are_as_many_as_before():
  record = {"words": WORDS[:20], "tags": ["O"] * 20}
  (copy,), _ = substituted([record], ["new"])
  assert len(copy["words"]) == 20
  assert 0 < copy["words"].count("new") < 20
  assert record["words"] == WORDS[:20]


@pytest.mark.parametrize(
  ("tags", "is_replaced"),
  [("B-PER I-PER " * 9 + "O O", False), ("NN VB " * 10, True)],
)
def test_no_word_of_an_entity_is_replaced(tags, is_replaced):
  record = {"words": WORDS[:20], "tags": tags.split()}
  (copy,), _ = substituted([record], ["new"], share=0.9)
  assert ("new" in copy["words"][:18]) == is_replaced
  assert "new" in copy["words"][18:]


def test_without_a_likely_word_the_text_stays():
  assert substituted([{"text": "one two three"}], [])[0] == []


def test_a_masked_language_model_proposes_words(tmp_path):
  model = tmp_path / "model"
  bert_jax.save(folders.model("bert", "masked_lm"), model)
  opened = inference.masked_language_model(str(model))
  text, long = "the [MASK] is in [MASK] place", "[MASK] " + "names " * 40
  found = opened.predict([text, long])
  assert [len(masks) for masks in found] == [2, 0]
  for words in found[0]:
    assert 0 < len(words) <= 10
    assert {*words} <= {*small.tokenizer().tokens}
    assert all(word.isalpha() for word in words)
  assert opened.mask_token == "[MASK]"


def test_a_task_learns_from_its_records_and_their_copies(tmp_path):
  section = {"copies": 2, "masked_lm": 0.5, "model": "unused"}
  config = learnable.recipe(tmp_path, data__augmentation=section)
  model = MaskedLanguageModel(
    "[MASK]", lambda texts: [[["mask"]] * t.count("[MASK]") for t in texts]
  )
  _, data = Recipe.from_dict(config).make_task(augmentation_model=model)
  (note,) = [x for x in data.notes if "changed copies of records" in x]
  count = int(note.split()[0])
  assert 12 < count <= 24
  stream = data.training(1, 0, None)
  assert stream.batches_per_epoch == 12 + count


def test_an_encoder_alone_proposes_nothing(tmp_path):
  bert_jax.save(folders.model("bert", "embedding"), tmp_path / "model")
  with user_error("has no masked-LM head"):
    inference.masked_language_model(str(tmp_path / "model"))
