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
DROP TABLE IF EXISTS outbox_identity; -- of earlier versions

-- Histories: xids and ids are given again by a database that was restored to earlier, cloned, or lost its last moments
-- in a crash. Each such database begins a history of its own, with a random id, after the last row that it has. A
-- position of an earlier history still holds if no later history began before it.
CREATE TABLE IF NOT EXISTS outbox_histories (
    ordinal int PRIMARY KEY,
    history text NOT NULL,
    xid xid8 NOT NULL,                -- of the last row before it began
    id bigint NOT NULL
);
-- The present history, and where it is present: this start of the server, this database, this file of the outbox. It is
-- unlogged, so that a crash or a promotion empties it. `writer` is its own xmin, which a row that is copied back loses.
CREATE UNLOGGED TABLE IF NOT EXISTS outbox_present (history text, started timestamptz, file text, writer xid);

-- Finds the present history, or begins it if that of `outbox_present` is present no more. The session remembers it and
-- the files for which it holds, as this costs 20 µs; a session ends with its server.
CREATE OR REPLACE FUNCTION outbox_find_history() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    known text;
    own xid8;
BEGIN
    FOR attempt IN 1..2 LOOP -- the second under the lock, as another transaction may have begun it meanwhile
        SELECT p.history INTO known FROM outbox_present p
        WHERE p.started = pg_postmaster_start_time() AND p.file = pg_relation_filepath('outbox') AND p.writer = p.xmin;
        EXIT WHEN known IS NOT NULL;
        LOCK TABLE outbox_histories IN EXCLUSIVE MODE;
    END LOOP;
    IF known IS NULL THEN
        own := pg_current_xact_id(); -- its rows belong to the new history already
        IF EXISTS (SELECT FROM outbox WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()) AND xid <> own) THEN
            -- Rows of another server, which is ahead of this one: they would seem to be written in the future.
            UPDATE outbox o SET xid = '3', id = r.number FROM (
                SELECT xid, id, max(id) OVER () + row_number() OVER (ORDER BY xid, id) AS number
                FROM outbox WHERE xid <> own) AS r
            WHERE (o.xid, o.id) = (r.xid, r.id);
            DELETE FROM outbox_histories; -- no position leads here
        END IF;
        known := left(replace(gen_random_uuid()::text, '-', ''), 16);
        INSERT INTO outbox_histories
        SELECT 1 + (SELECT coalesce(max(ordinal), 0) FROM outbox_histories), known, coalesce(l.xid, '0'),
               coalesce(l.id, 0)
        FROM (VALUES (1)) AS one
        LEFT JOIN (SELECT xid, id FROM outbox WHERE xid <> own ORDER BY xid DESC, id DESC LIMIT 1) AS l ON true;
        DELETE FROM outbox_present;
        INSERT INTO outbox_present VALUES (known, pg_postmaster_start_time(), pg_relation_filepath('outbox'));
        UPDATE outbox_present SET writer = xmin;
    END IF;
    PERFORM set_config('crossover.history', known, false), set_config(
        'crossover.files', pg_relation_filepath('outbox') || ' ' || pg_relation_filepath('outbox_present'), false);
    RETURN known;
END $$;

-- The id of the present history. PostgreSQL inlines this.
CREATE OR REPLACE FUNCTION outbox_history() RETURNS text LANGUAGE sql AS $$
    SELECT CASE
        WHEN current_setting('crossover.files', true)
             = pg_relation_filepath('outbox') || ' ' || pg_relation_filepath('outbox_present')
        THEN current_setting('crossover.history', true) ELSE outbox_find_history() END
$$;

-- The id of the present history if the position leads to it, else null: no later history began before it, its row is
-- here, and as many rows up to it as the reader has counted (`counted` null: it has not). A transaction that was open
-- while a copy was made can be missing from the midst of the copy.
CREATE OR REPLACE FUNCTION outbox_holds(named text, at xid8, last bigint, counted bigint) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    present text;
BEGIN
    IF EXISTS (SELECT FROM outbox WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())) THEN
        TRUNCATE outbox_present; -- rows were restored into this table under the present history
    END IF;
    present := outbox_history();
    PERFORM FROM outbox_histories h WHERE h.history = named AND NOT EXISTS (
        SELECT FROM outbox_histories n WHERE n.ordinal > h.ordinal AND (n.xid, n.id) < (at, last));
    IF NOT FOUND OR (at > '0' AND NOT EXISTS (SELECT FROM outbox o WHERE (o.xid, o.id) = (at, last))) THEN
        RETURN NULL;
    END IF;
    IF named <> present AND counted <> (SELECT count(*) FROM outbox o WHERE (o.xid, o.id) <= (at, last)) THEN
        RETURN NULL;
    END IF;
    RETURN present;
END $$;

-- Events are kept: where some are taken away, another history begins. All sessions notice the new file of that table, and
-- of the outbox after a TRUNCATE.
CREATE OR REPLACE FUNCTION outbox_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('TRUNCATE %I.outbox_present', TG_TABLE_SCHEMA);
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER outbox_deleted AFTER DELETE ON outbox FOR EACH STATEMENT EXECUTE FUNCTION outbox_deleted();
ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_deleted; -- restores often run with triggers off
SELECT outbox_history();
