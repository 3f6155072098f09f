-- name: ledger_bytes
-- Heaps, indexes, TOAST, and the maps beside them, of every table of the ledger.
SELECT sum(pg_total_relation_size(oid))::bigint
FROM pg_class WHERE relnamespace = 'ledger'::regnamespace AND relkind = 'r'

-- name: transactions
-- Positions are dense: the head of the log counts them.
SELECT coalesce(sum(position), 0)::bigint FROM ledger.log_heads WHERE log = 'transactions'

-- name: server_settings
SELECT name, setting FROM pg_settings WHERE name = ANY ($1)

-- name: checkpoint
CHECKPOINT

-- name: create_tpcb
CREATE DATABASE tpcb
