"""The same model through SQLAlchemy's ORM: entities and relationships, a session per request, the rules unchanged."""
