-- The EMS's schema. log_heads and cursors come with runtime/sql/migrations.
-- Prices are 1/10,000 dollar, quantities whole shares, times nanoseconds UTC since 1970.

-- The log `routes`: what goes to a venue. Written by the service; partition = number of the venue, from 1.
CREATE TABLE routes (
    log_partition int NOT NULL,
    position bigint NOT NULL,
    cl_ord_id text NOT NULL,        -- ClOrdID(11)
    order_id text NOT NULL,
    account_id text NOT NULL,
    request text NOT NULL,
    symbol text NOT NULL,
    side text NOT NULL,
    ord_type text NOT NULL,
    time_in_force text NOT NULL,
    quantity bigint NOT NULL,
    price bigint NOT NULL,          -- 0 for a market order
    orig_cl_ord_id text,            -- OrigClOrdID(41) of a cancel or replace
    send_by_ns bigint NOT NULL,
    oms_partition int NOT NULL,
    oms_position bigint NOT NULL,
    trace_id bytea NOT NULL,
    parent_span_id bytea,
    received_at_ns bigint NOT NULL,
    written_at_ns bigint NOT NULL,
    done boolean NOT NULL DEFAULT false, -- nothing is to be sent for it and no answer is awaited
    CONSTRAINT routes_key PRIMARY KEY (log_partition, position),
    CONSTRAINT routes_cl_ord_id UNIQUE (cl_ord_id),
    CONSTRAINT routes_position_positive CHECK (position > 0 AND log_partition > 0),
    CONSTRAINT routes_cl_ord_id_length CHECK (length(cl_ord_id) BETWEEN 1 AND 20),
    CONSTRAINT routes_request_known CHECK (request IN ('NEW', 'CANCEL', 'REPLACE')),
    CONSTRAINT routes_side_known CHECK (side IN ('BUY', 'SELL')),
    CONSTRAINT routes_quantity_positive CHECK (quantity > 0),
    CONSTRAINT routes_price_fits CHECK (CASE ord_type WHEN 'MARKET' THEN price = 0 ELSE price > 0 END),
    CONSTRAINT routes_trace_length CHECK (length(trace_id) = 16 AND length(parent_span_id) = 8)
);

CREATE INDEX routes_open ON routes (log_partition, position) WHERE NOT done;

-- The log `executions`: what venues said. Partition n is written by the engine of the n-th venue, 0 by the service.
CREATE TABLE executions (
    log_partition int NOT NULL,
    position bigint NOT NULL,
    kind text NOT NULL,             -- ExecutionKind of the contract, without its prefix
    venue text NOT NULL,            -- '' in partition 0
    session text,                   -- these four are NULL for what the EMS itself says
    epoch bigint,                   -- rises when the session's numbers start again at 1
    msg_seq_num bigint,             -- MsgSeqNum(34)
    poss_dup boolean,               -- PossDupFlag(43)
    trade_date date,                -- TradeDate(75); NULL if the message has none
    exec_id text,                   -- ExecID(17); NULL for status reports and what has none
    exec_ref_id text,               -- ExecRefID(19)
    exec_trans_type smallint,       -- ExecTransType(20)
    ord_status text,                -- OrdStatus(39), FIX's own character
    cl_ord_id text NOT NULL,
    order_id text NOT NULL,
    account_id text NOT NULL,
    symbol text NOT NULL,
    side text NOT NULL,
    last_shares bigint NOT NULL,
    last_px bigint NOT NULL,
    cum_qty bigint NOT NULL,
    leaves_qty bigint NOT NULL,
    text text NOT NULL,             -- Text(58), its beginning, or the EMS's own reason
    reject_reason int,              -- OrdRejReason(103)
    transact_time_ns bigint,        -- TransactTime(60)
    venue_received_ns bigint,       -- user-defined 5501
    venue_decided_ns bigint,        -- user-defined 5502
    sent_at_ns bigint,              -- when the request went out that this row is the first answer to
    received_at_ns bigint NOT NULL,
    recorded_at_ns bigint NOT NULL,
    trace_id bytea NOT NULL,
    span_id bytea NOT NULL,
    raw text NOT NULL,              -- the message as it came, '' for what the EMS itself says
    CONSTRAINT executions_key PRIMARY KEY (log_partition, position),
    CONSTRAINT executions_position_positive CHECK (position > 0 AND log_partition >= 0),
    CONSTRAINT executions_kind_known CHECK (
        kind IN (
            'NEW', 'FILL', 'DONE_FOR_DAY', 'CANCELED', 'REPLACED', 'PENDING_CANCEL', 'REJECTED', 'PENDING_NEW',
            'EXPIRED', 'PENDING_REPLACE', 'STATUS', 'BUST', 'CORRECT', 'NOT_SENT'
        )
    ),
    CONSTRAINT executions_exec_trans_type_known CHECK (exec_trans_type BETWEEN 0 AND 3),
    CONSTRAINT executions_quantities_not_negative CHECK (
        last_shares >= 0 AND last_px >= 0 AND cum_qty >= 0 AND leaves_qty >= 0
    ),
    CONSTRAINT executions_fill_has_shares CHECK (kind <> 'FILL' OR (last_shares > 0 AND last_px > 0)),
    CONSTRAINT executions_own_only_in_0 CHECK (log_partition > 0 OR kind = 'NOT_SENT')
);

-- What makes a message the same message. Two keys, for not every message has an ExecID.
CREATE UNIQUE INDEX executions_exec_id ON executions (venue, exec_id, trade_date) NULLS NOT DISTINCT
WHERE exec_id IS NOT NULL;
CREATE UNIQUE INDEX executions_msg_seq_num ON executions (session, epoch, msg_seq_num) WHERE exec_id IS NULL;
CREATE UNIQUE INDEX executions_not_sent ON executions (cl_ord_id) WHERE kind = 'NOT_SENT';
CREATE INDEX executions_cl_ord_id ON executions (cl_ord_id);

-- Up to where each FIX session is committed: the engine asks the venue again for everything after it.
CREATE TABLE sessions (
    session text NOT NULL,
    venue text NOT NULL,
    epoch bigint NOT NULL,
    committed_seq bigint NOT NULL, -- highest MsgSeqNum(34) whose effect is in the database
    CONSTRAINT sessions_key PRIMARY KEY (session),
    CONSTRAINT sessions_not_negative CHECK (epoch > 0 AND committed_seq >= 0)
);

-- Messages that could not be applied, exactly as they came.
CREATE TABLE dead_letters (
    number bigint GENERATED ALWAYS AS IDENTITY,
    venue text NOT NULL,
    session text NOT NULL,
    epoch bigint NOT NULL,
    msg_seq_num bigint,
    reason text NOT NULL,
    raw bytea NOT NULL,
    received_at_ns bigint NOT NULL,
    recorded_at_ns bigint NOT NULL,
    CONSTRAINT dead_letters_key PRIMARY KEY (number)
);

CREATE INDEX dead_letters_msg_seq_num ON dead_letters (session, epoch, msg_seq_num);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on %: the execution log is only appended to', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER executions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON executions
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON routes, executions, dead_letters TO :service;
GRANT UPDATE (done) ON routes TO :service;
GRANT SELECT, INSERT, UPDATE ON sessions TO :service;
