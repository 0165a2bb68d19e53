"""The HTML templates of the pages."""

from pathlib import Path

import jinja2

from eval.pages.text import figure


def page_template(path: str) -> jinja2.Template:
    """Return the template at a path inside eval/pages/; it may include others of that folder."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    return environment.get_template(path)
