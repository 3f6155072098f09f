-- Rows from which spans are made: of one order ($1), or of a log from a position on.

-- name: order_rows
SELECT order_id, account_id, symbol, received_at_ns, accepted_at_ns, trace_id, span_id, parent_span_id, log_partition,
    accepted_position AS position
FROM oms.orders WHERE order_id = $1

-- name: orders_after
SELECT order_id, account_id, symbol, received_at_ns, accepted_at_ns, trace_id, span_id, parent_span_id, log_partition,
    accepted_position AS position
FROM oms.orders WHERE log_partition = $1 AND accepted_position > $2 ORDER BY accepted_position LIMIT 1000

-- name: order_transactions
SELECT log_partition, position, kind, requested_at_ns, recorded_at_ns, account_id, order_id, execution_id, trace_id
FROM ledger.transactions WHERE order_id = $1 ORDER BY log_partition, position

-- name: transactions_after
SELECT log_partition, position, kind, requested_at_ns, recorded_at_ns, account_id, order_id, execution_id, trace_id
FROM ledger.transactions WHERE log_partition = $1 AND position > $2 ORDER BY position LIMIT 1000

-- name: order_routes
SELECT log_partition, position, cl_ord_id, order_id, received_at_ns, written_at_ns, trace_id, parent_span_id
FROM ems.routes WHERE order_id = $1 ORDER BY log_partition, position

-- name: routes_after
SELECT log_partition, position, cl_ord_id, order_id, received_at_ns, written_at_ns, trace_id, parent_span_id
FROM ems.routes WHERE log_partition = $1 AND position > $2 ORDER BY position LIMIT 1000

-- name: order_executions
SELECT e.*, r.written_at_ns, NOT EXISTS (
        SELECT FROM ems.executions earlier
        WHERE earlier.cl_ord_id = e.cl_ord_id AND earlier.log_partition = e.log_partition
            AND earlier.position < e.position
    ) AS first
FROM ems.executions e LEFT JOIN ems.routes r USING (cl_ord_id)
WHERE e.cl_ord_id IN (SELECT cl_ord_id FROM ems.routes WHERE order_id = $1) OR e.cl_ord_id LIKE substr($1, 5) || '__'
ORDER BY e.log_partition, e.position

-- name: executions_after
SELECT e.*, r.written_at_ns, NOT EXISTS (
        SELECT FROM ems.executions earlier
        WHERE earlier.cl_ord_id = e.cl_ord_id AND earlier.log_partition = e.log_partition
            AND earlier.position < e.position
    ) AS first
FROM ems.executions e LEFT JOIN ems.routes r USING (cl_ord_id)
WHERE e.log_partition = $1 AND e.position > $2 ORDER BY e.position LIMIT 1000

-- name: order_entries
SELECT t.log_partition, t.position, t.kind, b.account_id, b.path, b.asset, e.amount, e.balance
FROM ledger.transactions t JOIN ledger.entries e USING (log_partition, position) JOIN ledger.balances b USING (balance_id)
WHERE t.order_id = $1 ORDER BY t.log_partition, t.position, e.leg
