-- Settlement, reconciliation and the watch over both.

-- name: unsettled
-- Cash of dates up to one that has not become settled, in order, after one (path, account).
SELECT path, account_id FROM balances
WHERE path LIKE 'cash/unsettled/%' AND path <= 'cash/unsettled/' || $1::text AND (path, account_id) > ($2, $3) AND balance <> 0
ORDER BY path, account_id LIMIT $4

-- name: last_run
SELECT recorded_at_ns, mismatches FROM reconciliations WHERE log_partition = $1 ORDER BY recorded_at_ns DESC LIMIT 1

-- name: posted
-- The trades, busts and corrections posted for these executions, as their entries have them.
SELECT t.execution_id, t.position, t.kind::int, t.order_id, t.reverses,
    array_agg(DISTINCT b.account_id) FILTER (WHERE b.account_id NOT LIKE 'house/%') || t.account_id AS accounts,
    array_agg(DISTINCT b.asset) FILTER (WHERE b.path LIKE 'street/%') AS symbols,
    coalesce(sum(e.amount) FILTER (WHERE b.path LIKE 'street/%'), 0)::bigint AS shares,
    coalesce(sum(e.amount) FILTER (WHERE b.path LIKE 'clearing/%'), 0)::bigint AS value
FROM transactions t JOIN entries e USING (log_partition, position) JOIN balances b USING (balance_id)
WHERE t.execution_id = ANY($1) AND t.kind IN (6, 8, 9)
GROUP BY t.log_partition, t.position

-- name: unsettled_of_settled_dates
-- What the house still has to clear, and customers still wait for, of dates that are settled.
SELECT path, sum(balance)::bigint AS amount FROM balances
WHERE (account_id = $1 AND path LIKE 'clearing/%' OR path LIKE 'cash/unsettled/%') AND right(path, 10) <= $2 AND balance <> 0
GROUP BY path ORDER BY path

-- name: street
-- Symbols of which customers have other positions than the street says.
SELECT asset, coalesce(sum(balance) FILTER (WHERE path LIKE 'street/%'), 0)::bigint AS street,
    coalesce(sum(balance) FILTER (WHERE path LIKE 'position/%'), 0)::bigint AS positions
FROM balances WHERE path ~ '^(position|street)/' GROUP BY asset HAVING sum(balance) <> 0 ORDER BY asset

-- name: owing
-- How many accounts owe, and some of them.
SELECT count(DISTINCT account_id) AS accounts, (array_agg(DISTINCT account_id))[:20] AS examples
FROM balances WHERE path ~ '^(cash/owed$|position/owed/)' AND balance <> 0
