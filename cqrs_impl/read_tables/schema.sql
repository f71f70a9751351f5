-- Read tables shaped like the answers.

CREATE TABLE IF NOT EXISTS customer_views (
    id uuid PRIMARY KEY, version int NOT NULL, name text NOT NULL,
    orders int NOT NULL, spent_cents bigint NOT NULL, last_order_at timestamptz
) WITH (fillfactor = 70);
CREATE TABLE IF NOT EXISTS product_views (
    id uuid PRIMARY KEY, version int NOT NULL, name text NOT NULL, price_cents bigint NOT NULL,
    stock bigint NOT NULL, sold bigint NOT NULL, revenue_cents bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS product_views_by_revenue ON product_views (revenue_cents DESC, id) WHERE sold > 0;
CREATE TABLE IF NOT EXISTS day_views (
    day date PRIMARY KEY, orders int NOT NULL, revenue_cents bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS order_views (
    id uuid PRIMARY KEY, version int NOT NULL, status text NOT NULL, placed_at timestamptz NOT NULL,
    customer_id uuid NOT NULL, customer_name text NOT NULL,
    lines text NOT NULL,              -- the answer's JSON
    line_count int NOT NULL, total_cents bigint NOT NULL,
    changes text NOT NULL             -- the answer's JSON, without its last bracket
) WITH (fillfactor = 80);
CREATE INDEX IF NOT EXISTS order_views_by_customer ON order_views (customer_id, placed_at DESC, id DESC);
CREATE TABLE IF NOT EXISTS word_views (
    word text NOT NULL, placed_at timestamptz NOT NULL, order_id uuid NOT NULL,
    of_customer boolean NOT NULL,     -- false: of a product, which is never renamed
    PRIMARY KEY (word, placed_at, order_id, of_customer)
);
