-- Rows as the hash chain covers them. What a link covers comes first, in the order of ledger/rows.py. An infinite date is
-- none that the ledger wrote.

-- name: links
SELECT link, position, recorded_at_ns, hash FROM ledger.chain
WHERE log = 'transactions' AND log_partition = $1 ORDER BY link

-- name: accounts
SELECT link, account_id, customer_id, opened_at_ns FROM ledger.accounts ORDER BY link

-- name: balances
SELECT link, balance_id, account_id, path, asset, balance, version FROM ledger.balances ORDER BY link

-- name: settlements
SELECT link, settle_date::text FROM ledger.settlements WHERE log_partition = $1 ORDER BY link

-- name: reconciliations
SELECT link, recorded_at_ns, executions, mismatches FROM ledger.reconciliations WHERE log_partition = $1 ORDER BY link

-- name: transactions
SELECT position, kind::int, legs::int,
    CASE WHEN isfinite(effective_date) THEN effective_date - date '1970-01-01' END AS effective_day,
    requested_at_ns, recorded_at_ns, account_id, order_id, hold_position, execution_id, exec_id, reverses, memo, trace_id,
    row_check
FROM ledger.transactions WHERE log_partition = $1 ORDER BY position

-- name: entries
SELECT position, leg::int, balance_id, amount, balance, version
FROM ledger.entries WHERE log_partition = $1 ORDER BY position, leg

-- name: commands
SELECT link, scope, key, request_hash, answer, row_check FROM ledger.commands ORDER BY link

-- name: holds
SELECT position, log_partition, account_id, order_id, asset, created_at_ns, idempotency_key, captured_quantity, done_quantity,
    released, draw_paths, draw_amounts, taken_amounts, seal
FROM ledger.holds WHERE log_partition = $1 ORDER BY position

-- name: unsealed_holds
SELECT * FROM ledger.holds WHERE log_partition = $1 AND seal = ''

-- name: seal_hold
UPDATE ledger.holds SET seal = $3 WHERE log_partition = $1 AND position = $2
