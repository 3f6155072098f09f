-- name: accounts
SELECT account_id, customer_id, opened_at_ns FROM accounts WHERE account_id = ANY($1)

-- name: settled_through
SELECT max(settle_date) FROM settlements WHERE log_partition = $1

-- name: balances
-- A dated path that has settled empty is never posted to again.
SELECT balance_id, account_id, path, balance, version FROM balances
WHERE account_id = ANY($1)
    AND (balance <> 0 OR path !~ '^(cash/unsettled|clearing)/' OR right(path, 10) > coalesce($2::date::text, ''))

-- name: holds_by_order
SELECT * FROM holds WHERE order_id = ANY($1)

-- name: holds_by_position
SELECT * FROM holds WHERE log_partition = $1 AND position = ANY($2::bigint[])

-- name: answers
SELECT scope, key, request_hash, answer
FROM commands JOIN unnest($1::bigint[], $2::text[]) AS asked(scope, key) USING (scope, key)

-- name: insert_accounts
INSERT INTO accounts SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])

-- name: insert_balances
INSERT INTO balances (account_id, path, asset, link) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
RETURNING balance_id, account_id, path

-- name: save_holds
INSERT INTO holds (log_partition, position, account_id, order_id, asset, created_at_ns, idempotency_key, captured_quantity,
    done_quantity, released, draw_paths, draw_amounts, taken_amounts, seal)
SELECT $1, position, account_id, order_id, asset, created_at_ns, idempotency_key, captured_quantity, done_quantity, released,
    string_to_array(draw_paths, ' '), string_to_array(draw_amounts, ' ')::bigint[], string_to_array(taken_amounts, ' ')::bigint[],
    seal
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::bigint[], $9::bigint[],
    $10::bool[], $11::text[], $12::text[], $13::text[], $14::bytea[])
    AS new(position, account_id, order_id, asset, created_at_ns, idempotency_key, captured_quantity, done_quantity, released,
        draw_paths, draw_amounts, taken_amounts, seal)
ON CONFLICT (log_partition, position) DO UPDATE SET captured_quantity = excluded.captured_quantity,
    done_quantity = excluded.done_quantity, released = excluded.released, draw_paths = excluded.draw_paths,
    draw_amounts = excluded.draw_amounts, taken_amounts = excluded.taken_amounts, seal = excluded.seal

-- name: trades_of_orders
-- What has been traded for these orders, and what was reversed since.
SELECT t.order_id, t.position, t.kind, t.exec_id, t.execution_id, t.reverses, b.account_id, b.path, b.asset, e.amount
FROM transactions t JOIN entries e USING (log_partition, position) JOIN balances b USING (balance_id)
WHERE t.log_partition = $1 AND t.order_id = ANY($2) AND t.kind IN (6, 8, 9, 11, 13)
ORDER BY t.position, e.leg

-- name: originals
-- Legs of transactions that somebody wants to reverse.
SELECT t.position, t.kind, t.reverses, b.account_id, b.path, b.asset, e.amount, EXISTS (
    SELECT FROM transactions later WHERE later.reverses = t.position AND later.log_partition = t.log_partition
) AS reversed
FROM transactions t JOIN entries e USING (log_partition, position) JOIN balances b USING (balance_id)
WHERE t.log_partition = $1 AND t.position = ANY($2::bigint[]) ORDER BY t.position, e.leg

-- name: clearing
SELECT path, balance FROM balances WHERE account_id = $1 AND path LIKE 'clearing/%' AND balance <> 0 ORDER BY path

-- name: settle
INSERT INTO settlements (log_partition, settle_date, link) VALUES ($1, $2, $3)

-- name: reconciled
INSERT INTO reconciliations (log_partition, recorded_at_ns, executions, mismatches, link) VALUES ($1, $2, $3, $4, $5)
