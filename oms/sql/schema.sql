-- Orders, the answers to PlaceOrder, and the order log.
-- Prices in 1/10,000 dollar, quantities in shares, times in UTC nanoseconds. Enumerations: openbell.fix.v1, openbell.oms.v1.

CREATE TABLE orders (
    order_id text PRIMARY KEY,
    log_partition int NOT NULL,
    accepted_position bigint NOT NULL,   -- in the order log: the order of acceptance
    customer_id text NOT NULL,
    account_id text NOT NULL,
    client_order_id text NOT NULL,
    symbol text NOT NULL,
    side smallint NOT NULL,
    ord_type smallint NOT NULL,
    time_in_force smallint NOT NULL,
    quantity bigint NOT NULL,
    limit_price bigint NOT NULL,         -- 0 for a market order
    route_price bigint NOT NULL,         -- the limit that goes to the venue
    hold_id text NOT NULL,
    received_at_ns bigint NOT NULL,
    accepted_at_ns bigint NOT NULL,
    trace_id bytea NOT NULL,
    span_id bytea NOT NULL,
    parent_span_id bytea,                -- the client's, if it sent one
    -- below: moved by the execution log only
    done smallint NOT NULL DEFAULT 0,
    pending smallint NOT NULL,
    status smallint NOT NULL,
    reason text NOT NULL DEFAULT '',
    cum_quantity bigint NOT NULL DEFAULT 0,
    filled_value bigint NOT NULL DEFAULT 0,
    updated_at_ns bigint NOT NULL,
    CONSTRAINT orders_client_key UNIQUE (account_id, client_order_id),
    CONSTRAINT orders_accepted UNIQUE (log_partition, accepted_position),
    CONSTRAINT quantity_positive CHECK (quantity > 0),
    CONSTRAINT route_price_positive CHECK (route_price > 0),
    CONSTRAINT limit_price_by_type CHECK (CASE WHEN ord_type = 1 THEN limit_price = 0 ELSE limit_price > 0 END),
    CONSTRAINT cum_quantity_not_negative CHECK (cum_quantity >= 0),
    CONSTRAINT trace_id_is_16_bytes CHECK (length(trace_id) = 16),
    CONSTRAINT span_ids_are_8_bytes CHECK (length(span_id) = 8 AND length(parent_span_id) = 8)
);
CREATE INDEX orders_account ON orders (account_id, accepted_position DESC);

-- Stored answers to PlaceOrder: the same key gives the same answer, refusals included.
CREATE TABLE answers (
    account_id text NOT NULL,
    client_order_id text NOT NULL,
    request_hash bytea NOT NULL,
    order_id text REFERENCES orders,
    refusal jsonb,                       -- {reason, message, metadata}
    recorded_at_ns bigint NOT NULL,
    PRIMARY KEY (account_id, client_order_id),
    CONSTRAINT ordered_or_refused CHECK ((order_id IS NULL) <> (refusal IS NULL))
);

-- Holds whose order never came: no order may be made of them any more, so that they can be released.
CREATE TABLE abandoned (
    order_id text PRIMARY KEY,
    recorded_at_ns bigint NOT NULL
);

CREATE TABLE order_log (
    log_partition int NOT NULL,
    position bigint NOT NULL,
    at_ns bigint NOT NULL,
    kind smallint NOT NULL,              -- openbell.oms.v1.OrderEventKind
    order_id text REFERENCES orders,     -- NULL for a refusal
    status smallint NOT NULL,
    reason text NOT NULL,
    cum_quantity bigint NOT NULL,
    filled_value bigint NOT NULL,
    execution_id text,
    asked jsonb,                         -- of a refusal: what was asked
    PRIMARY KEY (log_partition, position),
    CONSTRAINT order_or_asked CHECK ((order_id IS NULL) <> (asked IS NULL))
);
CREATE INDEX order_log_order ON order_log (order_id) WHERE order_id IS NOT NULL;

CREATE FUNCTION refuse_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE insufficient_privilege USING MESSAGE = format('%s is append-only', tg_table_name);
END $$;
CREATE TRIGGER order_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON order_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_edit();
CREATE TRIGGER answers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON answers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_edit();

-- An order and an abandonment of the same id exclude each other, whoever comes first.
CREATE FUNCTION refuse_abandoned() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM new_orders JOIN abandoned USING (order_id)) THEN
        RAISE check_violation USING MESSAGE = 'the hold was given up', CONSTRAINT = 'orders_not_abandoned';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER orders_not_abandoned AFTER INSERT ON orders
    REFERENCING NEW TABLE AS new_orders FOR EACH STATEMENT EXECUTE FUNCTION refuse_abandoned();

GRANT SELECT, INSERT ON orders, answers, abandoned, order_log TO :service;
GRANT UPDATE (done, pending, status, reason, cum_quantity, filled_value, updated_at_ns) ON orders TO :service;
