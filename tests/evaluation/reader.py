import html.parser


class Reader(html.parser.HTMLParser):
  """What a browser would make of a page."""

  def __init__(self, source):
    super().__init__()
    self.tags, self.words, self.attributes = [], [], []
    self.feed(source)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += [name for name, _ in attrs]

  def handle_data(self, data):
    self.words.append(data)
