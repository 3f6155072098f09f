-- What is read for callers. Entries up to a committed position never change: statements that are bounded by the same position
-- show the same instant. What does change, balances and holds, is read in one statement.

-- name: owner
SELECT account_id, customer_id, opened_at_ns FROM accounts WHERE account_id = $1

-- name: account_with_balances
SELECT a.account_id, a.customer_id, a.opened_at_ns, b.path, b.balance, b.version, h.position
FROM accounts a
LEFT JOIN balances b ON b.account_id = a.account_id AND b.balance <> 0
LEFT JOIN log_heads h ON h.log = 'transactions' AND h.log_partition = $2
WHERE a.account_id = $1

-- name: standing
-- As account_with_balances, with the open holds.
SELECT a.account_id, a.customer_id, a.opened_at_ns,
    coalesce((SELECT position FROM log_heads WHERE log = 'transactions' AND log_partition = $2), 0) AS position,
    ARRAY(SELECT b FROM balances b WHERE b.account_id = a.account_id AND b.balance <> 0) AS balances,
    ARRAY(SELECT h FROM holds h WHERE h.account_id = a.account_id AND NOT h.released ORDER BY h.position) AS holds
FROM accounts a WHERE a.account_id = $1

-- name: head
SELECT coalesce(max(position), 0) FROM log_heads WHERE log = 'transactions' AND log_partition = $1

-- name: balances_at
SELECT b.path, at.balance, at.version
FROM balances b CROSS JOIN LATERAL (
    SELECT balance, version FROM entries e
    WHERE e.balance_id = b.balance_id AND e.position <= $2 ORDER BY e.position DESC LIMIT 1
) at
WHERE b.account_id = $1 AND at.balance <> 0

-- name: hold_by_key
SELECT holds.*, t.trace_id FROM holds JOIN transactions t USING (log_partition, position)
WHERE holds.account_id = $1 AND idempotency_key = $2

-- name: list_holds
SELECT * FROM holds
WHERE NOT released AND created_at_ns < $1 AND (created_at_ns, log_partition, position) > ($2, $3, $4)
ORDER BY created_at_ns, log_partition, position LIMIT $5

-- name: entries_of_account
-- Of each balance the next entries, and of those together the next. The inner limit is hidden from the planner, which would
-- otherwise find it cheaper to read all that a busy balance has, and sort it.
WITH page AS MATERIALIZED (
    SELECT following.*, b.account_id, b.path, b.asset
    FROM balances b CROSS JOIN LATERAL (
        SELECT * FROM entries e
        WHERE e.balance_id = b.balance_id AND e.position BETWEEN $2 AND $4 AND (e.position, e.leg) > ($2, $3)
        ORDER BY e.position LIMIT (SELECT $5::bigint)
    ) following
    WHERE b.account_id = $1
    ORDER BY following.position, following.leg LIMIT $5
)
SELECT t.log_partition, t.position, t.kind, t.effective_date, t.recorded_at_ns, t.order_id, t.execution_id, t.trace_id,
    page.account_id, page.path, page.asset, page.amount, page.balance, page.version, page.leg
FROM page JOIN transactions t USING (log_partition, position)
ORDER BY t.position, page.leg

-- name: by_index
-- For the four statements that follow. The planner does not trust a Bloom filter on random ids, and it is misled by tables that
-- were empty when it planned: without this it would scan.
SELECT set_config('enable_seqscan', 'off', true), set_config('max_parallel_workers_per_gather', '0', true),
    set_config('jit', 'off', true)

-- name: entries_of_transaction
WITH found AS MATERIALIZED (SELECT * FROM transactions WHERE log_partition = $1 AND position = $8)
SELECT t.log_partition, t.position, t.kind, t.effective_date, t.recorded_at_ns, t.order_id, t.execution_id, t.trace_id,
    b.account_id, b.path, b.asset, e.amount, e.balance, e.version, e.leg
FROM found t JOIN entries e USING (log_partition, position) JOIN balances b USING (balance_id)
WHERE (t.position, e.leg) > ($2, $3) AND ($5 = '' OR b.account_id = $5) AND ($6 = '' OR t.order_id = $6)
    AND ($7 = '' OR t.execution_id = $7) AND ($9 = '' OR t.trace_id = decode($9, 'hex'))
ORDER BY t.position, e.leg LIMIT $4

-- name: entries_of_execution
WITH found AS MATERIALIZED (SELECT * FROM transactions WHERE execution_id = $7)
SELECT t.log_partition, t.position, t.kind, t.effective_date, t.recorded_at_ns, t.order_id, t.execution_id, t.trace_id,
    b.account_id, b.path, b.asset, e.amount, e.balance, e.version, e.leg
FROM found t JOIN entries e USING (log_partition, position) JOIN balances b USING (balance_id)
WHERE t.log_partition = $1 AND (t.position, e.leg) > ($2, $3) AND ($5 = '' OR b.account_id = $5)
    AND ($6 = '' OR t.order_id = $6) AND ($8 = 0 OR t.position = $8) AND ($9 = '' OR t.trace_id = decode($9, 'hex'))
ORDER BY t.position, e.leg LIMIT $4

-- name: entries_of_order
WITH found AS MATERIALIZED (SELECT * FROM transactions WHERE order_id = $6)
SELECT t.log_partition, t.position, t.kind, t.effective_date, t.recorded_at_ns, t.order_id, t.execution_id, t.trace_id,
    b.account_id, b.path, b.asset, e.amount, e.balance, e.version, e.leg
FROM found t JOIN entries e USING (log_partition, position) JOIN balances b USING (balance_id)
WHERE t.log_partition = $1 AND (t.position, e.leg) > ($2, $3) AND ($5 = '' OR b.account_id = $5)
    AND ($7 = '' OR t.execution_id = $7) AND ($8 = 0 OR t.position = $8) AND ($9 = '' OR t.trace_id = decode($9, 'hex'))
ORDER BY t.position, e.leg LIMIT $4

-- name: entries_of_trace
WITH found AS MATERIALIZED (SELECT * FROM transactions WHERE trace_id = decode($9, 'hex'))
SELECT t.log_partition, t.position, t.kind, t.effective_date, t.recorded_at_ns, t.order_id, t.execution_id, t.trace_id,
    b.account_id, b.path, b.asset, e.amount, e.balance, e.version, e.leg
FROM found t JOIN entries e USING (log_partition, position) JOIN balances b USING (balance_id)
WHERE t.log_partition = $1 AND (t.position, e.leg) > ($2, $3) AND ($5 = '' OR b.account_id = $5)
    AND ($6 = '' OR t.order_id = $6) AND ($7 = '' OR t.execution_id = $7) AND ($8 = 0 OR t.position = $8)
ORDER BY t.position, e.leg LIMIT $4

-- name: recorded_lines
SELECT b.path, b.asset, coalesce(opening.balance, 0) AS opening, coalesce(closing.balance, 0) AS closing
FROM balances b
LEFT JOIN LATERAL (
    SELECT balance FROM entries e WHERE e.balance_id = b.balance_id AND e.position <= $2 ORDER BY e.position DESC LIMIT 1
) opening ON true
LEFT JOIN LATERAL (
    SELECT balance FROM entries e WHERE e.balance_id = b.balance_id AND e.position <= $3 ORDER BY e.position DESC LIMIT 1
) closing ON true
WHERE b.account_id = $1 ORDER BY b.path

-- name: effective_lines
-- Nothing bounds how long before or after its effective date an entry is recorded, so all of the account's are looked at.
SELECT b.path, b.asset, coalesce(sum(e.amount) FILTER (WHERE t.effective_date < $3), 0)::bigint AS opening,
    coalesce(sum(e.amount) FILTER (WHERE t.effective_date <= $4), 0)::bigint AS closing
FROM balances b JOIN entries e USING (balance_id) JOIN transactions t USING (log_partition, position)
WHERE b.account_id = $1 AND e.position <= $2
GROUP BY b.path, b.asset ORDER BY b.path

-- name: effective_entries
SELECT t.log_partition, t.position, t.kind, t.effective_date, t.recorded_at_ns, t.order_id, t.execution_id, t.trace_id,
    b.account_id, b.path, b.asset, e.amount, e.balance, e.version, e.leg,
    t.effective_date - date '1970-01-01' AS effective_day
FROM balances b JOIN entries e USING (balance_id) JOIN transactions t USING (log_partition, position)
WHERE b.account_id = $1 AND e.position <= $2 AND t.effective_date BETWEEN $3 AND $4
    AND (t.effective_date - date '1970-01-01', e.position, e.leg) > ($5::bigint, $6, $7)
ORDER BY t.effective_date, e.position, e.leg LIMIT $8

-- name: read_transactions
SELECT * FROM transactions WHERE log_partition = $1 AND position > $2 ORDER BY position LIMIT $3

-- name: read_entries
SELECT e.position, e.leg, b.account_id, b.path, b.asset, e.amount, e.balance, e.version
FROM entries e JOIN balances b USING (balance_id)
WHERE e.log_partition = $1 AND e.position BETWEEN $2 AND $3 ORDER BY e.position, e.leg
