-- name: accounts
SELECT account_id, customer_id, opened_at_ns FROM accounts WHERE account_id = ANY($1)

-- name: balances
SELECT balance_id, account_id, path, balance, version FROM balances WHERE account_id = ANY($1)

-- name: holds_by_order
SELECT * FROM holds WHERE order_id = ANY($1)

-- name: holds_by_place
SELECT * FROM holds JOIN unnest($1::int[], $2::bigint[]) AS wanted(log_partition, position) USING (log_partition, position)

-- name: answers
SELECT scope, key, request_hash, answer, refusal
FROM commands JOIN unnest($1::text[], $2::text[]) AS asked(scope, key) USING (scope, key)

-- name: insert_accounts
INSERT INTO accounts SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])

-- name: insert_balances
INSERT INTO balances (account_id, path, asset) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
RETURNING balance_id, account_id, path

-- name: insert_transactions
INSERT INTO transactions (log_partition, position, kind, legs, effective_date, requested_at_ns, recorded_at_ns, account_id,
    order_id, hold_id, execution_id, trace_id, span_id)
SELECT $1, new.* FROM unnest($2::bigint[], $3::smallint[], $4::smallint[], $5::date[], $6::bigint[], $7::bigint[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::bytea[], $13::bytea[]) AS new

-- name: insert_entries
INSERT INTO entries (log_partition, position, leg, balance_id, amount, balance, version)
SELECT $1, new.* FROM unnest($2::bigint[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS new

-- name: save_holds
INSERT INTO holds SELECT * FROM jsonb_to_recordset($1::jsonb) AS new (
    log_partition int, position bigint, account_id text, order_id text, asset text, draw_paths text[],
    draw_amounts bigint[], captured_quantity bigint, done_quantity bigint, released boolean, created_at_ns bigint,
    idempotency_key text)
ON CONFLICT (log_partition, position) DO UPDATE SET draw_paths = excluded.draw_paths,
    draw_amounts = excluded.draw_amounts, captured_quantity = excluded.captured_quantity,
    done_quantity = excluded.done_quantity, released = excluded.released

-- name: insert_commands
INSERT INTO commands SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::jsonb[], $6::bigint[])

-- name: position
SELECT coalesce(max(position), 0) FROM log_heads WHERE log = 'transactions' AND log_partition = $1

-- name: account_with_balances
SELECT a.account_id, a.customer_id, a.opened_at_ns, b.path, b.balance, b.version, h.position
FROM accounts a
LEFT JOIN balances b USING (account_id)
LEFT JOIN log_heads h ON h.log = 'transactions' AND h.log_partition = $2
WHERE a.account_id = $1

-- name: hold_by_key
SELECT holds.*, t.trace_id FROM holds JOIN transactions t USING (log_partition, position)
WHERE holds.account_id = $1 AND idempotency_key = $2

-- name: list_holds
SELECT * FROM holds
WHERE NOT released AND created_at_ns < $1 AND (created_at_ns, log_partition, position) > ($2, $3, $4)
ORDER BY created_at_ns, log_partition, position LIMIT $5

-- name: list_entries
SELECT t.log_partition, t.position, t.kind, t.effective_date, t.recorded_at_ns, t.order_id, t.execution_id,
    b.account_id, b.path, b.asset, e.amount, e.balance, e.version, e.leg
FROM entries e JOIN balances b USING (balance_id) JOIN transactions t USING (log_partition, position)
WHERE b.account_id = $1 AND ($2 = '' OR t.order_id = $2) AND (e.log_partition, e.position, e.leg) > ($3, $4, $5)
ORDER BY e.log_partition, e.position, e.leg LIMIT $6

-- name: read_transactions
SELECT * FROM transactions WHERE log_partition = $1 AND position > $2 ORDER BY position LIMIT $3

-- name: read_entries
SELECT e.position, b.account_id, b.path, b.asset, e.amount, e.balance, e.version
FROM entries e JOIN balances b USING (balance_id)
WHERE e.log_partition = $1 AND e.position BETWEEN $2 AND $3 ORDER BY e.position, e.leg
