-- The tables of the write model with their indexes and constraints: the same on every rung that has a store.
--
-- Every rung has every index, even those that only reads of the write model use, so that rungs differ only in their
-- idea. No index contains a column that pay, ship or cancel changes, so these stay HOT updates (they write no index
-- entry).

CREATE TABLE IF NOT EXISTS customers (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    name text NOT NULL,
    words text[] NOT NULL,            -- of the name, split as the contract's search does
    registered_name text NOT NULL
);
CREATE INDEX IF NOT EXISTS customers_by_word ON customers USING gin (words);

CREATE TABLE IF NOT EXISTS products (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    name text NOT NULL,
    words text[] NOT NULL,
    price_cents bigint NOT NULL CHECK (price_cents BETWEEN 0 AND 100000000),
    stock bigint NOT NULL CONSTRAINT products_stock_not_negative CHECK (stock >= 0),
    added_price_cents bigint NOT NULL,
    added_stock bigint NOT NULL
) WITH (fillfactor = 70);             -- room for HOT updates of the stock on the same page
CREATE INDEX IF NOT EXISTS products_by_word ON products USING gin (words);

CREATE TABLE IF NOT EXISTS deliveries (
    product_id uuid NOT NULL REFERENCES products,
    delivery_id uuid NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (product_id, delivery_id)
);

CREATE TABLE IF NOT EXISTS orders (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    status text NOT NULL CHECK (status IN ('placed', 'paid', 'shipped', 'cancelled')),
    customer_id uuid NOT NULL REFERENCES customers,
    placed_at timestamptz NOT NULL,
    paid_at timestamptz,
    shipped_at timestamptz,
    cancelled_at timestamptz,
    line_count int NOT NULL CHECK (line_count BETWEEN 1 AND 50),
    total_cents bigint NOT NULL CHECK (total_cents >= 0)
) WITH (fillfactor = 80);
CREATE INDEX IF NOT EXISTS orders_by_customer ON orders (customer_id, placed_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS orders_by_day ON orders (((placed_at AT TIME ZONE 'UTC')::date)) INCLUDE (total_cents);
CREATE INDEX IF NOT EXISTS orders_by_time ON orders (placed_at DESC, id DESC);

CREATE TABLE IF NOT EXISTS order_lines (
    order_id uuid NOT NULL REFERENCES orders,
    position smallint NOT NULL,
    product_id uuid NOT NULL REFERENCES products,
    quantity int NOT NULL CHECK (quantity BETWEEN 1 AND 1000),
    unit_price_cents bigint NOT NULL CHECK (unit_price_cents >= 0),
    PRIMARY KEY (order_id, position)
);
CREATE INDEX IF NOT EXISTS order_lines_by_product ON order_lines (product_id) INCLUDE (order_id, quantity);
