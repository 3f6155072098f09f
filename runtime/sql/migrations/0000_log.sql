-- Applied to every schema: heads of the logs it writes, cursors of the logs it reads.

CREATE TABLE log_heads (
    log text NOT NULL,
    log_partition int NOT NULL,
    epoch bigint NOT NULL,     -- rises with every writer that takes over; an older one is fenced off
    position bigint NOT NULL,  -- of the last row; dense from 1
    PRIMARY KEY (log, log_partition),
    CONSTRAINT position_not_negative CHECK (position >= 0)
);

CREATE TABLE cursors (
    source text NOT NULL,
    log_partition int NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (source, log_partition)
);

GRANT SELECT, INSERT, UPDATE ON log_heads, cursors TO :service;
