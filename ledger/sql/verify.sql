-- What `openbell ledger verify` asks beside the history itself.

-- name: work_mem
SET LOCAL work_mem = '64MB'

-- name: date_style
SET LOCAL datestyle = 'ISO'

-- name: end
SELECT coalesce(max(position), 0) FROM ledger.chain WHERE log = 'transactions' AND log_partition = $1

-- name: head
SELECT position FROM ledger.log_heads WHERE log = 'transactions' AND log_partition = $1

-- name: elsewhere
-- Rows that belong to no log of this ledger.
SELECT 'chain' AS found_in, log || ' ' || log_partition || ' ' || link AS key FROM ledger.chain
WHERE (log, log_partition) <> ('transactions', $1)
UNION ALL SELECT 'transactions', log_partition || ' ' || position FROM ledger.transactions WHERE log_partition <> $1
UNION ALL SELECT 'entries', log_partition || ' ' || position || ' ' || leg FROM ledger.entries WHERE log_partition <> $1
UNION ALL SELECT 'holds', log_partition || ' ' || position FROM ledger.holds WHERE log_partition <> $1
UNION ALL SELECT 'settlements', log_partition || ' ' || settle_date FROM ledger.settlements WHERE log_partition <> $1
UNION ALL SELECT 'reconciliations', log_partition || ' ' || recorded_at_ns FROM ledger.reconciliations WHERE log_partition <> $1
LIMIT 1000

-- name: unknown_accounts
-- Accounts of balances that nobody opened.
SELECT DISTINCT account_id FROM ledger.balances b
WHERE account_id <> 'house/' || $1::int AND NOT EXISTS (SELECT FROM ledger.accounts a WHERE a.account_id = b.account_id)
LIMIT 1000
