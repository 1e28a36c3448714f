"""How BERT cleans a text and splits it into words.

The rules are those of the BERT paper's code (google-research/bert, the
`BasicTokenizer` of `tokenization.py`): drop control characters, set CJK
ideographs apart, lower the case, strip accents, split at white space and
around punctuation. As in the `BertTokenizer` of Transformers, every character
of Unicode's class C is dropped; Google's code keeps those for private use and
those unassigned.

The `tokenizers` library ships the rules as `BertNormalizer` and
`BertPreTokenizer`, but with Unicode tables of 2015 and some slips. The
pipeline here takes another way through the same library where those differ
from the Python code:

- marks, format characters and punctuation newer than those tables;
- capital sigma at the end of a word, which Python lowers to a final sigma;
- U+2B820 to U+2B91F, ideographs that `BertNormalizer` does not set apart;
- unassigned characters.

Two differences from Google's code remain: the class C above, and the Unicode
version, which is that of the regular expressions in `tokenizers` whatever
Python runs, so that ids do not change with Python; a character newer than one
of the two can be treated differently. Transformers differs twice from both:
its `BertTokenizer` composes characters (NFC) first, which matters where case
is kept and the text comes decomposed, and makes no final sigma.
"""

import dataclasses

from tokenizers import Regex, normalizers, pre_tokenizers

# A capital sigma after a cased letter and not before one; "ignorable" marks
# and apostrophes between them do not count. The classes share no character
# and the runs are atomic, so that hostile text costs linear time.
_BETWEEN = r"(?>\p{Case_Ignorable}*)"
_CASED = r"[\p{Cased}&&\P{Case_Ignorable}]"
_FINAL_SIGMA = rf"{_CASED}{_BETWEEN}\KΣ(?!{_BETWEEN}{_CASED})"
_DROPPED = r"[\p{C}\x{FFFD}&&[^\t\n\r]]"
# Every ASCII character that is no letter, digit or space; P*; and the
# ideographs that BertNormalizer leaves out.
_ALONE = r"[\p{P}!-/:-@\[-`{-~]"
_ALONE_AND_CJK = r"[\p{P}!-/:-@\[-`{-~\x{2B820}-\x{2B91F}]"


@dataclasses.dataclass(frozen=True)
class WordRules:
  """Which of BERT's rules hold for a text.

  Attributes:
    lowercase: whether case is dropped ("uncased" models).
    strip_accents: whether accents are dropped; None follows `lowercase`.
    split_cjk: whether each CJK ideograph is a word of its own.
  """

  lowercase: bool = True
  strip_accents: bool | None = None
  split_cjk: bool = True

  @property
  def strips_accents(self) -> bool:
    """`strip_accents`, decided."""
    if self.strip_accents is None:
      return self.lowercase
    return self.strip_accents


def normalizer(rules: WordRules) -> normalizers.Normalizer:
  """From raw text to text whose words only need to be split."""
  steps = [normalizers.Replace(Regex(_DROPPED), "")]
  if rules.lowercase:
    steps.append(normalizers.Replace(Regex(_FINAL_SIGMA), "ς"))
  steps.append(
    normalizers.BertNormalizer(
      clean_text=False,
      handle_chinese_chars=rules.split_cjk,
      strip_accents=False,
      lowercase=rules.lowercase,
    )
  )
  if rules.strips_accents:
    steps += [normalizers.NFD(), normalizers.Replace(Regex(r"\p{Mn}"), "")]
  return normalizers.Sequence(steps)


def pre_tokenizer(rules: WordRules) -> pre_tokenizers.PreTokenizer:
  """Splits normalised text at white space and around punctuation."""
  alone = _ALONE_AND_CJK if rules.split_cjk else _ALONE
  return pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(Regex(alone), "isolated"),
      pre_tokenizers.WhitespaceSplit(),
    ]
  )
