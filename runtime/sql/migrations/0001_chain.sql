-- A hash chain over a log: one link a batch, whose hash covers the hash before it and every row the batch inserted.
-- A signed head, kept outside the database, then vouches for all that is older.
CREATE TABLE chain (
    log text NOT NULL,
    log_partition int NOT NULL,
    link bigint NOT NULL,           -- dense from 1
    position bigint NOT NULL,       -- of the log after the batch
    recorded_at_ns bigint NOT NULL, -- never earlier than the link before
    hash bytea NOT NULL CONSTRAINT hash_is_sha256 CHECK (length(hash) = 32),
    PRIMARY KEY (log, log_partition, link)
);
-- The position that an instant saw.
CREATE INDEX chain_time ON chain (log, log_partition, recorded_at_ns, link);

CREATE FUNCTION refuse_chain_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE insufficient_privilege USING MESSAGE = format('%s is append-only', tg_table_name);
END $$;
CREATE TRIGGER chain_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON chain
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_chain_edit();

GRANT SELECT, INSERT ON chain TO :service;
