-- The event store is the outbox, beside no other table: its rows are what is true, and are read by stream, too.
--
-- What else is here can be dropped at any time and loses nothing.

-- The state of a stream at one version. It counts only for the rules that wrote it, and in the history that it was
-- written in: a restored or restarted database begins another. Unlogged, so that a crash empties it.
CREATE UNLOGGED TABLE IF NOT EXISTS snapshots (
    stream text PRIMARY KEY,
    version int NOT NULL,
    rules text NOT NULL,
    history text NOT NULL,
    state text NOT NULL
) WITH (fillfactor = 50);             -- room for HOT updates

-- The delivery ids of a product, which in its state would grow for ever. A delivery counts once.
CREATE UNIQUE INDEX IF NOT EXISTS outbox_deliveries ON outbox (stream, substring(body FROM '"delivery_id":"([^"]+)"'))
WHERE stream LIKE 'product-%' AND body LIKE '%"type":"StockDelivered"%';

-- The orders of a customer, for whom asks what was.
CREATE INDEX IF NOT EXISTS outbox_orders_of ON outbox (substring(body FROM '"customer_id":"([^"]+)"'))
WHERE version = 1 AND stream LIKE 'order-%';

-- What is known of some streams: a snapshot of each or null, and the events after it. Those that will be appended to are
-- locked first. Each statement of this function sees what was committed before it began, hence what the lock waited for.
-- Indexes: the primary key of snapshots, and that of the unique (stream, version).
CREATE OR REPLACE FUNCTION event_streams(wanted text[], locked text[], ours text)
RETURNS TABLE (name text, snapshot text, event text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || '.' || l, 0)) FROM unnest(locked) AS l;
    RETURN QUERY
    SELECT w.stream, CASE WHEN o.version IS NULL OR o.version = s.version + 1 THEN s.state END, o.body
    FROM unnest(wanted) AS w (stream)
    LEFT JOIN snapshots s ON s.stream = w.stream AND s.rules = ours AND s.history = (SELECT outbox_history())
    LEFT JOIN outbox o ON o.stream = w.stream AND o.version > coalesce(s.version, 0)
    ORDER BY o.version;
END $$;

-- The types of events that were ever written here, each with the highest number of its shape.
CREATE TABLE IF NOT EXISTS event_types (type text PRIMARY KEY, schema int NOT NULL);
