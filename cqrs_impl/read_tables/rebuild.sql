-- Rebuilds all read tables from the write model in one transaction, after it was loaded or repaired.

TRUNCATE customer_views, product_views, day_views, order_views, word_views;
INSERT INTO customer_views
SELECT c.id, c.version, c.name, count(o.id), coalesce(sum(o.total_cents), 0), max(o.placed_at)
FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.status <> 'cancelled' GROUP BY c.id;
INSERT INTO product_views
SELECT p.id, p.version, p.name, p.price_cents, p.stock, coalesce(sum(l.quantity), 0),
       coalesce(sum(l.quantity * l.unit_price_cents), 0)
FROM products p LEFT JOIN (
    order_lines l JOIN orders o ON o.id = l.order_id AND o.status <> 'cancelled') ON l.product_id = p.id GROUP BY p.id;
INSERT INTO day_views
SELECT (placed_at AT TIME ZONE 'UTC')::date, count(*), sum(total_cents) FROM orders WHERE status <> 'cancelled'
GROUP BY 1;
INSERT INTO order_views
SELECT o.id, o.version, o.status, o.placed_at, c.id, c.name,
       (SELECT '[' || string_agg('{"product_id":"' || p.id || '","product_name":' || to_json(p.name)
               || ',"quantity":' || l.quantity || ',"unit_price_cents":' || l.unit_price_cents
               || ',"amount_cents":' || l.quantity * l.unit_price_cents || '}', ',' ORDER BY l.position) || ']'
        FROM order_lines l JOIN products p ON p.id = l.product_id WHERE l.order_id = o.id),
       o.line_count, o.total_cents,
       (SELECT '[' || string_agg('{"version":' || version || ',"what":"' || what || '","at":"'
               || to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '"}', ',' ORDER BY version)
        FROM (SELECT row_number() OVER (ORDER BY step) AS version, what, at FROM (VALUES
                (1, 'placed', o.placed_at), (2, 'paid', o.paid_at), (3, 'shipped', o.shipped_at),
                (4, 'cancelled', o.cancelled_at)) AS steps (step, what, at) WHERE at IS NOT NULL) AS change)
FROM orders o JOIN customers c ON c.id = o.customer_id;
INSERT INTO word_views
SELECT word, o.placed_at, o.id, true FROM orders o JOIN customers c ON c.id = o.customer_id, unnest(c.words) AS word
UNION SELECT word, o.placed_at, o.id, false FROM orders o JOIN order_lines l ON l.order_id = o.id
JOIN products p ON p.id = l.product_id, unnest(p.words) AS word;
ANALYZE customer_views, product_views, day_views, order_views, word_views;
