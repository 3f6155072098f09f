-- name: answers
SELECT account_id, client_order_id, request_hash, order_id, refusal
FROM answers JOIN unnest($1::text[], $2::text[]) AS asked(account_id, client_order_id) USING (account_id, client_order_id)

-- name: abandoned
SELECT order_id FROM abandoned WHERE order_id = ANY($1)

-- name: existing
SELECT order_id FROM orders WHERE order_id = ANY($1)

-- name: orders
SELECT * FROM orders WHERE order_id = ANY($1)

-- name: insert_orders
INSERT INTO orders (order_id, log_partition, accepted_position, customer_id, account_id, client_order_id, symbol, side,
    ord_type, time_in_force, quantity, limit_price, route_price, hold_id, received_at_ns, accepted_at_ns, trace_id, span_id,
    parent_span_id, pending, status, updated_at_ns)
SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::smallint[],
    $9::smallint[], $10::smallint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::text[], $15::bigint[], $16::bigint[],
    $17::bytea[], $18::bytea[], $19::bytea[], $20::smallint[], $21::smallint[], $22::bigint[])

-- name: insert_answers
INSERT INTO answers SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::jsonb[], $6::bigint[])

-- name: insert_abandoned
INSERT INTO abandoned SELECT * FROM unnest($1::text[], $2::bigint[]) ON CONFLICT DO NOTHING

-- name: insert_log
INSERT INTO order_log SELECT $1, new.* FROM unnest($2::bigint[], $3::bigint[], $4::smallint[], $5::text[], $6::smallint[],
    $7::text[], $8::bigint[], $9::bigint[], $10::text[], $11::jsonb[]) AS new

-- name: move_orders
UPDATE orders SET done = new.done, pending = new.pending, status = new.status, reason = new.reason,
    cum_quantity = new.cum_quantity, filled_value = new.filled_value, updated_at_ns = new.updated_at_ns
FROM unnest($1::text[], $2::smallint[], $3::smallint[], $4::smallint[], $5::text[], $6::bigint[], $7::bigint[],
    $8::bigint[]) AS new(order_id, done, pending, status, reason, cum_quantity, filled_value, updated_at_ns)
WHERE orders.order_id = new.order_id

-- name: order
SELECT * FROM orders WHERE order_id = $1

-- name: list_orders
SELECT * FROM orders WHERE account_id = $1 AND accepted_position < $2 ORDER BY accepted_position DESC LIMIT $3

-- name: read_log
SELECT l.position, l.at_ns, l.kind, l.execution_id, l.asked, o.order_id, o.account_id, o.client_order_id, o.symbol, o.side,
    o.ord_type, o.time_in_force, o.quantity, o.limit_price, o.accepted_at_ns, o.trace_id, l.status, l.reason,
    l.cum_quantity, l.filled_value, l.at_ns AS updated_at_ns
FROM order_log l LEFT JOIN orders o USING (order_id)
WHERE l.log_partition = $1 AND l.position > $2 ORDER BY l.position LIMIT $3

-- name: read_accepted
SELECT l.position, o.order_id, o.account_id, o.symbol, o.side, o.ord_type, o.time_in_force, o.quantity, o.route_price,
    o.accepted_at_ns, o.trace_id, o.span_id
FROM order_log l LEFT JOIN orders o ON o.order_id = l.order_id AND l.kind = 1
WHERE l.log_partition = $1 AND l.position > $2 ORDER BY l.position LIMIT $3
