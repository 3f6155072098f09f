-- What the auditor asks. Every query gives the rows that show a violation; none means that the invariant holds.

-- name: fills
SELECT e.venue, e.exec_id, e.trade_date, e.cl_ord_id, e.order_id, e.account_id, e.symbol, e.side, e.last_shares, e.last_px,
    'exe_' || e.log_partition || '_' || lpad(e.position::text, 12, '0') AS execution_id
FROM ems.executions e WHERE e.kind = 'FILL'

-- name: trades
SELECT t.execution_id, t.order_id, count(*) AS legs FROM ledger.transactions t
JOIN ledger.entries USING (log_partition, position)
WHERE t.kind = 6 AND t.execution_id IS NOT NULL GROUP BY t.log_partition, t.position

-- name: booked_by_hand
-- Shares that came by no execution: trades and captures that an operator or a service booked.
SELECT t.account_id, b.asset AS symbol, -sum(e.amount)::bigint AS quantity
FROM ledger.transactions t JOIN ledger.entries e USING (log_partition, position) JOIN ledger.balances b USING (balance_id)
WHERE t.kind IN (6, 7) AND t.execution_id IS NULL AND b.path LIKE 'street/%' GROUP BY t.account_id, b.asset

-- name: order_totals
SELECT order_id, account_id, symbol, side, quantity, cum_quantity FROM oms.orders

-- name: routes
SELECT cl_ord_id, order_id, log_partition, quantity FROM ems.routes WHERE request = 'NEW'

-- name: unbalanced_transactions
SELECT log_partition, position, asset, sum(amount) AS sum
FROM ledger.entries JOIN ledger.balances USING (balance_id)
GROUP BY log_partition, position, asset HAVING sum(amount) <> 0

-- name: sums_by_asset
SELECT asset, sum(amount) AS sum FROM ledger.entries JOIN ledger.balances USING (balance_id) GROUP BY asset HAVING sum(amount) <> 0

-- name: wrong_balances
SELECT b.account_id, b.path, b.balance, b.version, sum(e.amount) AS entries, count(e.amount) AS versions
FROM ledger.balances b LEFT JOIN ledger.entries e USING (balance_id)
GROUP BY b.balance_id HAVING coalesce(sum(e.amount), 0) <> b.balance OR count(e.amount) <> b.version

-- name: broken_chains
SELECT account_id, path, version, amount, balance, before
FROM (
    SELECT b.account_id, b.path, e.version, e.amount, e.balance,
        lag(e.balance, 1, 0::bigint) OVER (PARTITION BY e.balance_id ORDER BY e.version) AS before
    FROM ledger.entries e JOIN ledger.balances b USING (balance_id)
) steps
WHERE balance <> before + amount

-- name: negative_customers
SELECT b.account_id, b.path, e.balance, e.log_partition, e.position
FROM ledger.entries e JOIN ledger.balances b USING (balance_id)
WHERE e.balance < 0 AND b.account_id NOT LIKE 'house/%' AND b.path !~ '^(cash/owed$|position/owed/)'

-- name: positions
SELECT account_id, asset AS symbol, sum(balance)::bigint AS quantity FROM ledger.balances
WHERE path LIKE 'position/%' GROUP BY account_id, asset HAVING sum(balance) <> 0

-- name: orders_without_entries
SELECT o.order_id, o.account_id, encode(o.trace_id, 'hex') AS trace_id FROM oms.orders o
WHERE NOT EXISTS (
    SELECT FROM ledger.transactions t JOIN ledger.entries e USING (log_partition, position)
    WHERE t.order_id = o.order_id AND t.kind = 3 AND t.trace_id = o.trace_id
)

-- name: open_holds_of_done_orders
SELECT o.order_id, o.status, h.draw_paths, h.draw_amounts FROM oms.orders o JOIN ledger.holds h USING (order_id)
WHERE o.done <> 0 AND NOT h.released

-- name: released_holds_of_open_orders
SELECT o.order_id, o.status FROM oms.orders o JOIN ledger.holds h USING (order_id) WHERE o.done = 0 AND h.released

-- name: held_not_in_holds
SELECT coalesce(b.account_id, h.account_id) AS account_id, coalesce(b.asset, h.asset) AS asset, b.held, h.held AS in_holds
FROM (
    SELECT account_id, asset, sum(balance) AS held FROM ledger.balances
    WHERE path = 'cash/held' OR path LIKE 'position/held/%' GROUP BY account_id, asset
) b
FULL JOIN (
    SELECT account_id, asset, sum((SELECT sum(amount) FROM unnest(draw_amounts) AS amount)) AS held FROM ledger.holds
    GROUP BY account_id, asset
) h ON (b.account_id, b.asset) = (h.account_id, h.asset)
WHERE coalesce(b.held, 0) <> coalesce(h.held, 0)

-- name: acknowledged_orders
SELECT order_id, account_id, client_order_id, symbol, side, quantity, limit_price, cum_quantity,
    encode(trace_id, 'hex') AS trace_id
FROM oms.orders WHERE order_id = ANY($1)

-- name: acknowledged_transactions
SELECT t.log_partition, t.position, t.account_id FROM ledger.transactions t
JOIN unnest($1::int[], $2::bigint[]) AS kept(log_partition, position) USING (log_partition, position)
