"""Rules that clean one text: markup, characters, Unicode form, boilerplate."""

import functools
import re

from bert_jax import settings

_EXTRA = "pip install 'bert_jax[clean]'"


def _names(text: str) -> frozenset[str]:
  return frozenset(text.split())


# Elements that are never shown, or are no prose.
_HIDDEN = _names(
  "head script style noscript template svg math iframe object canvas select"
  " textarea title"
)
# Elements around the content of a page.
_AROUND = _names("nav aside footer form button menu dialog")
_PARAGRAPHS = _names(
  "p h1 h2 h3 h4 h5 h6 blockquote pre ul ol dl table figure article section"
  " main header footer nav aside hr form fieldset"
)
_LINES = _names(
  "html body div br li dt dd tr caption figcaption address option legend"
  " summary details center"
)
_CELLS = _names("td th")
_INLINE = _names(
  "a abbr b big cite code del dfn em font i img ins kbd label link mark meta q"
  " s samp small span strike strong sub sup tbody thead time tt u var"
)
# Only the names of HTML, so that `List<String>` and `<e1>` remain text.
_ELEMENTS = "|".join(
  sorted(_HIDDEN | _AROUND | _PARAGRAPHS | _LINES | _CELLS | _INLINE)
)
_TAG = re.compile(
  rf"</?(?:{_ELEMENTS})(?:\s[^<>]*=[^<>]*)?\s*/?>|<!--|<!doctype\b", re.I
)
_REFERENCE = re.compile(r"&(?:[a-zA-Z][a-zA-Z0-9]+|#\d+|#x[0-9a-fA-F]+);")
# Mark the ends of lines and paragraphs while text is assembled.
_LINE_END, _PARAGRAPH_END = "\x1e", "\x1d"
_FOR_MARKUP = str.maketrans({"\0": " ", _LINE_END: " ", _PARAGRAPH_END: " "})

# The characters of the Unicode categories Cc and Cf that spell nothing: control
# characters, soft hyphen, zero-width space and joiners of words, byte order
# mark, marks of direction, and invisible operators.
_CONTROL = re.compile(
  "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e"
  "\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0001"
  "\U000e0020-\U000e007f]"
)
# A joiner or non-joiner spells something in the scripts from U+0600 on, such
# as Persian and Hindi, and in emoji.
_JOINER = re.compile("(?<![\u0600-\U0010ffff])[\u200c\u200d]+")
_JOINER_BEFORE = re.compile("[\u200c\u200d]+(?![\u0600-\U0010ffff])")
_SPACES = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_BREAKS = re.compile("\r\n?|[\x85\u2028\u2029]")

UNICODE_FORMS = ("NFC", "NFKC")

_SEPARATORS = re.compile(r"\s(?:[|•·»›→]|::)\s")
_BOILERPLATE = re.compile(
  r"""
  \b(?:terms\ (?:of\ (?:use|service)|and\ conditions)|privacy\ policy
    |cookie\ policy|(?:uses?|use\ of|accept(?:\ all)?)\ cookies)\b
  |\ball\ rights\ reserved\b
  |^\W*(?:copyright\b.{0,20}|©\s*)\d{4}\b
  |\b(?:enable|requires?)\ javascript\b|\bjavascript\ is\ (?:disabled|required)
  |\blorem\ ipsum\b
  |^\W*(?:read\ more|learn\ more|click\ here|show\ (?:more|less)|view\ all
    |skip\ to\ (?:main\ )?content|back\ to\ top|jump\ to\ (?:navigation|search)
    |share\ (?:this|on)(?:\ \w+)?|tweet|print\ this\ page|advertisements?
    |sign\ (?:in|up)|log\ ?in|subscribe(?:\ now)?|leave\ a\ (?:reply|comment)
    |add\ to\ cart|next\ page|previous\ page|home|menu|search)\W*$
  """,
  re.IGNORECASE | re.VERBOSE,
)
_NOTICE = 300
"""The longest line that is a notice, in characters; prose may mention one."""


def has_markup(text: str) -> bool:
  """Whether a text has HTML tags or character references."""
  return bool(_TAG.search(text) or _REFERENCE.search(text))


def check_html_library() -> None:
  """Raises a `UserError` if lxml, which `html_to_text` needs, is missing."""
  try:
    import lxml.html  # noqa: F401  The extra `clean`.
  except ImportError as error:
    raise settings.UserError(
      f"config.corpus.clean.html needs lxml: {_EXTRA} ({error})"
    ) from None


def html_to_text(text: str, content_only: bool = False) -> str:
  r"""The visible text of HTML, parsed by lxml as browsers do.

  Blocks are lines, paragraphs are separated by blank lines. Line breaks within
  a block are spaces, except in `<pre>` and in a text without any block, such as
  plain text with a few `<b>`. A text without markup is returned unchanged.

  >>> html_to_text("<p>Fish &amp; <b>chips</b></p><p>1 &lt; 2</p>")
  'Fish & chips\n\n1 < 2'

  Args:
    text: an HTML page or a part of one.
    content_only: whether to drop navigation, footers, forms and asides.
  """
  if not has_markup(text):
    return text
  from lxml import etree

  parser = etree.HTMLParser(
    encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True
  )
  try:
    root = etree.fromstring(text.translate(_FOR_MARKUP).encode(), parser)
  except etree.XMLSyntaxError:
    root = None
  if root is None:  # Nothing but comments.
    return ""
  # The parser adds <html>, <body>, and <p> around text.
  blocks = (_PARAGRAPHS | _LINES | _CELLS) - {"html", "body", "p"}
  keeps_breaks = not re.search(r"<(?:p|body)\b", text, re.I) and not any(
    element.tag in blocks for element in root.iter()
  )
  hidden = _HIDDEN | _AROUND if content_only else _HIDDEN
  found: list[str] = []
  inside_hidden = inside_pre = 0
  for event, element in etree.iterwalk(root, events=("start", "end")):
    starts, tag = event == "start", element.tag
    if tag in _PARAGRAPHS:
      found.append(_PARAGRAPH_END)
    elif tag in _LINES and (starts or tag != "br"):
      found.append(_LINE_END)
    elif tag in _CELLS:
      found.append(" ")
    inside_hidden += (tag in hidden) * (1 if starts else -1)
    inside_pre += (tag == "pre") * (1 if starts else -1)
    words = element.text if starts else element.tail
    if words and not inside_hidden:
      as_is = inside_pre or keeps_breaks
      found.append(words if as_is else re.sub(r"\s+", " ", words))
  text = re.sub(rf"\s*{_PARAGRAPH_END}\s*", "\n\n", "".join(found))
  text = re.sub(rf"[^\S\n]*{_LINE_END}\s*", "\n", text)
  return re.sub(r"\n{3,}", "\n\n", text).strip()


def remove_control_characters(text: str) -> tuple[str, int]:
  """Removes control and zero-width characters, and counts them.

  Unusual spaces become spaces, unusual line breaks line breaks. Zero-width
  joiners and non-joiners stay in the scripts that are spelled with them.
  """
  if text.isascii() and text.isprintable():
    return text, 0
  text = _SPACES.sub(" ", _BREAKS.sub("\n", text))
  removed = 0
  for pattern in (_CONTROL, _JOINER, _JOINER_BEFORE):
    size = len(text)
    text = pattern.sub("", text)
    removed += size - len(text)
  return text, removed


def is_boilerplate(line: str) -> bool:
  """Whether a line is a notice, a link or a menu rather than prose."""
  line = line.strip()
  if not line or len(line) > _NOTICE:
    return False
  if _BOILERPLATE.search(line):
    return True
  parts = _SEPARATORS.split(line)
  return len(parts) >= 3 and all(len(part.split()) <= 4 for part in parts)


@functools.cache
def _identifier():
  from py3langid import langid

  return langid.LanguageIdentifier.from_model_file(
    langid.MODEL_FILE, norm_probs=True
  )


def check_languages(languages: tuple[str, ...]) -> None:
  """Raises a `UserError` for an unknown language, or without py3langid."""
  try:
    known = _identifier().labels
  except ImportError as error:
    raise settings.UserError(
      f"config.corpus.clean.languages needs py3langid: {_EXTRA} ({error})"
    ) from None
  for language in languages:
    settings.choice(
      "config.corpus.clean.languages", language, dict.fromkeys(known)
    )


def language(text: str) -> tuple[str, float]:
  """The language of a text as ISO 639-1 code, and its probability."""
  code, probability = _identifier().classify(text[:10_000])
  return code, float(probability)
