-- name: take
INSERT INTO log_heads AS head VALUES ($1, $2, 1, 0)
ON CONFLICT (log, log_partition) DO UPDATE SET epoch = head.epoch + 1
RETURNING epoch, position

-- name: retake
UPDATE log_heads SET epoch = epoch + 1
WHERE log = $1 AND log_partition = $2 AND epoch = $3
RETURNING epoch, position

-- name: advance
UPDATE log_heads SET position = $5
WHERE log = $1 AND log_partition = $2 AND epoch = $3 AND position = $4

-- name: cursor
SELECT position FROM cursors WHERE source = $1 AND log_partition = $2

-- name: move_cursor
INSERT INTO cursors VALUES ($1, $2, $4)
ON CONFLICT (source, log_partition) DO UPDATE SET position = $4 WHERE cursors.position = $3
