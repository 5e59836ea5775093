"""A page of HTML as its elements."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """The elements of a page, in order: tag, attributes."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]
