-- name: tip
SELECT link, position, recorded_at_ns, hash FROM chain
WHERE log = $1 AND log_partition = $2 ORDER BY link DESC LIMIT 1

-- name: append
INSERT INTO chain VALUES ($1, $2, $3, $4, $5, $6)

-- name: link
SELECT link, position, recorded_at_ns, hash FROM chain WHERE log = $1 AND log_partition = $2 AND link = $3

-- name: position_at
SELECT coalesce(max(position), 0) FROM (
    SELECT position FROM chain WHERE log = $1 AND log_partition = $2 AND recorded_at_ns <= $3
    ORDER BY recorded_at_ns DESC, link DESC LIMIT 1
) newest
