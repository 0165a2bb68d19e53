"""What tests read of a page."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags, checked for balance; text; and every address that the page names."""

    VOID = {"meta", "img", "br", "path", "use"}

    def __init__(self, html):
        super().__init__()
        self.open, self.images, self.addresses, self.headings, self.text = [], [], [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [
            value for name, value in attributes.items() if name in ("src", "href", "xlink:href")
        ]
        if tag == "img":
            self.images.append(attributes)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        if tag not in self.VOID:
            self.addresses += [value for name, value in attributes if name.endswith("href")]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "
