"""Events as the truth: the outbox is the only table, and state is a fold of a stream by the contract's rules.

`schema.sql` and `store.py` hold the events, `events.py` and `upcasts.py` their shapes, `streams.py` folds them,
`commands.py` decides and appends, `history.py` reads the past and `past.py` answers from it, `load.py` fills the store
with a data set. Views are those of `cqrs`: the same feed, projector and documents.

Why not the library `eventsourcing` (9.5.6 was read). Its recorder for PostgreSQL takes `LOCK TABLE … IN EXCLUSIVE
MODE` for each append, so that its notifications have no gaps: one command at a time, where the horizon of the outbox
lets them commit side by side. It is synchronous and has a pool and retries of its own, beside which neither level of
clients could be compared with the other rungs. It keeps state in aggregates that decide and mutate in one class, where
the rules here are those of every rung. And its positions are integers of one table, which do not notice a restored
database. What was taken from it: (stream, version) as the key that makes concurrency optimistic, snapshots in a table
of their own at intervals of versions, upcasts in single steps from one schema to the next, and one append for the
events of several aggregates.
"""
