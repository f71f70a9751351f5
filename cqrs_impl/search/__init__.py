"""The orders in a search engine: a second read store, with a projector of its own beside the one of the views."""
