-- The outbox: each event is a row, written in the transaction of the command that caused it, and kept.
--
-- `xid` is the transaction that wrote the row. Sequence numbers are taken before the commit, so their order is not the
-- order of commits: a reader of `id > last` would skip rows forever. feed.py reads by `xid`.

CREATE TABLE IF NOT EXISTS outbox (
    id bigserial,
    xid xid8 DEFAULT pg_current_xact_id(),
    stream text NOT NULL,
    version int NOT NULL,
    body text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT outbox_by_position PRIMARY KEY (xid, id),
    UNIQUE (stream, version)          -- of two writers at one version, one fails
);
-- The id of this outbox; a read store with the id of another one is rebuilt. With synchronous_commit off, a crash can
-- lose events that were already read. The id must then change, so the table is unlogged there: a crash empties it.
CREATE TABLE IF NOT EXISTS outbox_identity (one boolean PRIMARY KEY DEFAULT true CHECK (one), id uuid NOT NULL);
DO $$ BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN ALTER TABLE outbox_identity SET UNLOGGED;
    ELSE ALTER TABLE outbox_identity SET LOGGED; END IF;
END $$;
INSERT INTO outbox_identity (id) VALUES (gen_random_uuid()) ON CONFLICT DO NOTHING;
