-- The outbox: each event is a row, written in the transaction of the command that caused it, and kept.
--
-- `xid` is the transaction that wrote the row. Sequence numbers are taken before the commit, so their order is not the
-- order of commits and `id > last` skips rows for ever; feed.py reads by `xid`.

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
-- Which outbox this is: a read store that followed another one is of no use here. Where a crash can lose events that
-- were read already, it must not be the same one afterwards: a crash empties an unlogged table.
CREATE TABLE IF NOT EXISTS outbox_identity (one boolean PRIMARY KEY DEFAULT true CHECK (one), id uuid NOT NULL);
DO $$ BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN ALTER TABLE outbox_identity SET UNLOGGED;
    ELSE ALTER TABLE outbox_identity SET LOGGED; END IF;
END $$;
INSERT INTO outbox_identity (id) VALUES (gen_random_uuid()) ON CONFLICT DO NOTHING;
