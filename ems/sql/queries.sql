-- name: known_commands
SELECT cl_ord_id FROM routes WHERE cl_ord_id = ANY ($1)
UNION ALL
SELECT cl_ord_id FROM executions WHERE cl_ord_id = ANY ($1) AND kind = 'NOT_SENT'

-- name: notify
SELECT pg_notify($1, $2)

-- name: routes_head
SELECT coalesce(max(position), 0) FROM routes WHERE log_partition = $1

-- name: open_routes
SELECT routes.*, EXISTS (
    SELECT FROM executions
    WHERE executions.cl_ord_id = routes.cl_ord_id
    AND NOT (executions.kind = 'STATUS' AND executions.reject_reason IS NOT DISTINCT FROM 5)
) AS known
FROM routes
WHERE log_partition = $1 AND NOT done AND position <= $2
ORDER BY position

-- name: new_routes
SELECT * FROM routes WHERE log_partition = $1 AND position > $2 ORDER BY position LIMIT $3

-- name: routes_of
SELECT * FROM routes WHERE log_partition = $1 AND cl_ord_id = ANY ($2)

-- name: finish_routes
UPDATE routes SET done = true WHERE log_partition = $1 AND position = ANY ($2) AND NOT done

-- name: known_exec_ids
SELECT execution.trade_date, execution.exec_id, execution.cl_ord_id, execution.last_shares, execution.last_px
FROM unnest($2::text[], $3::date[]) AS asked (exec_id, trade_date)
JOIN executions AS execution
    ON execution.exec_id = asked.exec_id AND execution.trade_date IS NOT DISTINCT FROM asked.trade_date
WHERE execution.venue = $1 AND execution.exec_id IS NOT NULL

-- name: known_seq_nums
SELECT epoch, msg_seq_num FROM executions
WHERE session = $1 AND epoch >= $2 AND msg_seq_num = ANY ($3) AND exec_id IS NULL

-- name: buried_seq_nums
SELECT epoch, msg_seq_num FROM dead_letters WHERE session = $1 AND epoch >= $2 AND msg_seq_num = ANY ($3)

-- name: known_not_sent
SELECT cl_ord_id FROM executions WHERE cl_ord_id = ANY ($1) AND kind = 'NOT_SENT'

-- name: begin_session
INSERT INTO sessions VALUES ($1, $2, 1, 0) ON CONFLICT DO NOTHING

-- name: session
SELECT epoch, committed_seq FROM sessions WHERE session = $1

-- name: move_session
UPDATE sessions SET epoch = $2, committed_seq = $3 WHERE session = $1

-- name: executions_after
SELECT * FROM executions WHERE log_partition = $1 AND position > $2 ORDER BY position LIMIT $3
