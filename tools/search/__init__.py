"""Pictures like a picture: the search index of a run, and queries to it."""
