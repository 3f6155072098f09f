-- Leaner rows without foreign keys that are checked row by row, a hash chain, and what busts, settlement and reconciliation need.
-- Tables are made anew: that is the only way to reorder their columns. What they held becomes the chain's first link, which the
-- ledger makes at its next start.

CREATE TEMP TABLE old_accounts ON COMMIT DROP AS SELECT * FROM accounts;
CREATE TEMP TABLE old_balances ON COMMIT DROP AS SELECT * FROM balances;
CREATE TEMP TABLE old_transactions ON COMMIT DROP AS SELECT * FROM transactions;
CREATE TEMP TABLE old_entries ON COMMIT DROP AS SELECT * FROM entries;
CREATE TEMP TABLE old_holds ON COMMIT DROP AS SELECT * FROM holds;
CREATE TEMP TABLE old_commands ON COMMIT DROP AS SELECT * FROM commands;
DROP TABLE commands, holds, entries, transactions, balances, accounts;
DROP FUNCTION post_entries, count_entries, refuse_edit, refuse_second_release, check_holds;

CREATE TABLE accounts (
    account_id text PRIMARY KEY,
    customer_id text NOT NULL,
    opened_at_ns bigint NOT NULL,
    link bigint NOT NULL
);
CREATE INDEX accounts_link ON accounts USING brin (link);

-- The last entry's balance of each (account, path). Nobody sets it: the trigger on entries does.
CREATE TABLE balances (
    balance bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 0,
    link bigint NOT NULL,
    balance_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text NOT NULL,
    path text NOT NULL,
    asset text NOT NULL,
    CONSTRAINT balances_account_path UNIQUE (account_id, path),
    CONSTRAINT customers_not_negative CHECK (balance >= 0 OR account_id LIKE 'house/%' OR path ~ '^(cash|position)/owed'),
    CONSTRAINT owed_not_positive CHECK (balance <= 0 OR path !~ '^(cash|position)/owed'),
    CONSTRAINT asset_fits_path CHECK (
        asset = CASE WHEN path ~ '^(position|street)/' THEN regexp_replace(path, '^.*/', '') ELSE '$USD' END
    )
) WITH (fillfactor = 70);  -- room to update in place: no index has to be touched
CREATE INDEX balances_link ON balances USING brin (link);
-- Who has cash that waits for a settle date; who owes.
CREATE INDEX balances_unsettled ON balances (path, account_id) WHERE path LIKE 'cash/unsettled/%';
CREATE INDEX balances_owed ON balances (balance_id) WHERE path ~ '^(cash|position)/owed';

-- The transaction table is the log: dense positions, one fenced writer a partition.
CREATE TABLE transactions (
    position bigint NOT NULL,
    requested_at_ns bigint NOT NULL,
    recorded_at_ns bigint NOT NULL,
    hold_position bigint,            -- the hold it made or drew on
    reverses bigint,                 -- position of the transaction that it reverses
    effective_date date NOT NULL,
    row_check int NOT NULL,          -- CRC-32 of this row and its entries: names the changed row of a batch
    log_partition smallint NOT NULL,
    kind smallint NOT NULL,          -- openbell.ledger.v1.TransactionKind
    legs smallint NOT NULL,
    account_id text NOT NULL,        -- the customer's, or house/PARTITION
    trace_id bytea NOT NULL,
    order_id text,
    execution_id text,               -- exe_..., of the execution log
    exec_id text,                    -- ExecID(17), the venue's
    memo text,
    PRIMARY KEY (log_partition, position),
    CONSTRAINT transactions_have_legs CHECK (legs >= 2),
    CONSTRAINT trace_id_is_16_bytes CHECK (length(trace_id) = 16)
);
CREATE INDEX transactions_order ON transactions (order_id) WHERE order_id IS NOT NULL;
-- Trace ids are random: a tree of them would cost more than the rows. A Bloom filter for each 16 pages costs a byte a row.
CREATE INDEX transactions_trace ON transactions
    USING brin (trace_id bytea_bloom_ops (n_distinct_per_range = 1000)) WITH (pages_per_range = 16, autosummarize = on);
-- I2: an execution is posted once.
CREATE UNIQUE INDEX transactions_execution ON transactions (execution_id, kind) WHERE execution_id IS NOT NULL;
CREATE UNIQUE INDEX transactions_reversed_once ON transactions (reverses, log_partition) WHERE reverses IS NOT NULL;

CREATE TABLE entries (
    position bigint NOT NULL,
    amount bigint NOT NULL,
    balance bigint NOT NULL,   -- of balance_id after this entry
    version bigint NOT NULL,   -- counts the entries of balance_id from 1
    balance_id int NOT NULL,
    log_partition smallint NOT NULL,
    leg smallint NOT NULL CONSTRAINT legs_count_from_1 CHECK (leg >= 1),
    PRIMARY KEY (position, leg, log_partition),
    -- A transaction moves a balance once, so this also gives the balance at any position.
    CONSTRAINT entries_balance UNIQUE (balance_id, position),
    CONSTRAINT entries_move_something CHECK (amount <> 0)
);

-- Funds or shares set aside for one order. Named by the position of the transaction that made it.
CREATE TABLE holds (
    position bigint NOT NULL,
    created_at_ns bigint NOT NULL,
    captured_quantity bigint NOT NULL DEFAULT 0,  -- shares told by fills and corrections; a bust does not lower it
    done_quantity bigint,            -- CumQty(14) of the report that ended the order
    log_partition smallint NOT NULL,
    released boolean NOT NULL DEFAULT false,
    account_id text NOT NULL,
    order_id text NOT NULL CONSTRAINT holds_order UNIQUE,
    asset text NOT NULL,
    idempotency_key text NOT NULL,
    draw_paths text[] NOT NULL,      -- where it took from, in the order of taking
    draw_amounts bigint[] NOT NULL,  -- how much of it is still held
    taken_amounts bigint[] NOT NULL, -- and how much of it was captured
    seal bytea NOT NULL,             -- HMAC of the row: it changes, so the chain cannot cover it
    PRIMARY KEY (log_partition, position),
    CONSTRAINT holds_key UNIQUE (account_id, idempotency_key),
    CONSTRAINT draws_match CHECK (
        cardinality(draw_paths) = cardinality(draw_amounts) AND cardinality(draw_paths) = cardinality(taken_amounts)
    ),
    CONSTRAINT draws_not_negative CHECK (0 <= ALL (draw_amounts)),
    CONSTRAINT released_holds_nothing CHECK (NOT released OR 0 = ALL (draw_amounts))
) WITH (fillfactor = 70);
CREATE INDEX holds_open ON holds (created_at_ns) WHERE NOT released;
CREATE INDEX holds_of_account ON holds (account_id, position) WHERE NOT released;

-- Stored answers: the same key gives the same answer, refusals included.
CREATE TABLE commands (
    scope bigint NOT NULL,       -- where the key is unique: hash of the command's kind and the account, customer, hold, ...
    link bigint NOT NULL,
    row_check int NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    answer bytea NOT NULL,       -- openbell.ledger.v1.Answer
    PRIMARY KEY (key, scope)     -- keys that follow one another stand side by side
);
CREATE INDEX commands_link ON commands USING brin (link);

-- Dates that are settled.
CREATE TABLE settlements (
    log_partition smallint NOT NULL,
    settle_date date NOT NULL,
    link bigint NOT NULL,
    PRIMARY KEY (log_partition, settle_date)
);

-- What each comparison with the execution log and with clearing found.
CREATE TABLE reconciliations (
    recorded_at_ns bigint NOT NULL,
    executions bigint NOT NULL,  -- compared
    link bigint NOT NULL,
    log_partition smallint NOT NULL,
    mismatches text NOT NULL,    -- JSON: [{what, execution_id, path, expected, posted}]
    PRIMARY KEY (log_partition, recorded_at_ns)
);

INSERT INTO accounts SELECT account_id, customer_id, opened_at_ns, 1 FROM old_accounts;

INSERT INTO balances OVERRIDING SYSTEM VALUE SELECT balance, version, 1, balance_id, account_id, path, asset FROM old_balances;
SELECT setval(pg_get_serial_sequence('balances', 'balance_id'), max(balance_id)) FROM balances;

INSERT INTO transactions
SELECT position, requested_at_ns, recorded_at_ns, split_part(hold_id, '_', 3)::bigint, NULL, effective_date, 0, log_partition,
    kind, legs, account_id, trace_id, order_id, execution_id
FROM old_transactions;

INSERT INTO entries SELECT position, amount, balance, version, balance_id, log_partition, leg FROM old_entries;

INSERT INTO holds
SELECT position, created_at_ns, captured_quantity, done_quantity, log_partition, released, account_id, order_id, asset,
    idempotency_key, draw_paths, draw_amounts, array_fill(0::bigint, ARRAY[cardinality(draw_paths)]), ''
FROM old_holds;

-- Stored answers were one message a kind, refusals JSON; now all of them are an Answer.
CREATE FUNCTION pg_temp.varint(n bigint) RETURNS bytea LANGUAGE sql AS $$
    SELECT CASE
        WHEN n < 128 THEN set_byte('\x00', 0, n::int)
        ELSE set_byte('\x00', 0, (n % 128 + 128)::int) || set_byte('\x00', 0, (n / 128)::int)
    END
$$;
CREATE FUNCTION pg_temp.field(number int, content bytea) RETURNS bytea LANGUAGE sql AS $$
    SELECT pg_temp.varint(number * 8 + 2) || pg_temp.varint(length(content)) || content
$$;
CREATE FUNCTION pg_temp.refused(refusal jsonb) RETURNS bytea LANGUAGE sql AS $$
    SELECT pg_temp.field(1, convert_to(refusal ->> 'reason', 'UTF8'))
        || '\x10'::bytea || pg_temp.varint(CASE
            WHEN refusal ->> 'reason' IN ('KEY_REUSED', 'ORDER_HAS_HOLD') THEN 6  -- ALREADY_EXISTS
            WHEN refusal ->> 'reason' LIKE 'UNKNOWN%' THEN 5  -- NOT_FOUND
            WHEN refusal ->> 'reason' LIKE ANY ('{INSUFFICIENT%,ACCOUNT_OWES,HOLD_RELEASED}') THEN 9  -- FAILED_PRECONDITION
            ELSE 3  -- INVALID_ARGUMENT
        END)
        || pg_temp.field(3, convert_to(refusal ->> 'message', 'UTF8'))
        || coalesce((
            SELECT string_agg(pg_temp.field(4, pg_temp.field(1, convert_to(key, 'UTF8')) || pg_temp.field(2, convert_to(value, 'UTF8'))), '')
            FROM jsonb_each_text(refusal -> 'metadata')
        ), '')
$$;
INSERT INTO commands
SELECT ('x' || left(encode(sha256(convert_to(scope, 'UTF8')), 'hex'), 16))::bit(64)::bigint, 1, 0, key,
    substring(request_hash FROM 1 FOR 16),
    CASE
        WHEN refusal IS NOT NULL THEN pg_temp.field(1, pg_temp.refused(refusal))
        ELSE pg_temp.field(
            CASE split_part(scope, ' ', 1)
                WHEN 'OpenAccount' THEN 2 WHEN 'Deposit' THEN 3 WHEN 'Withdraw' THEN 4 WHEN 'PlaceHold' THEN 5
                WHEN 'AdjustHold' THEN 6 WHEN 'ReleaseHold' THEN 8
            END, answer)
    END
FROM old_commands;
DROP FUNCTION pg_temp.varint, pg_temp.field, pg_temp.refused;

-- Statements that inserted entries in the transaction under way: by its end each has all its transactions.
CREATE UNLOGGED TABLE unposted (
    backend int PRIMARY KEY,
    log_partition smallint NOT NULL,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL
);

-- Runs once a statement, as the owner: the service may insert entries, but never set a balance.
-- The planner must not be misled by tables that were empty when it planned: always by index, never by scan.
CREATE FUNCTION post_entries() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    of_partition smallint;
    last_partition smallint;
    from_position bigint;
    to_position bigint;
    broken text;
BEGIN
    SELECT min(log_partition), max(log_partition), min(position), max(position)
    INTO of_partition, last_partition, from_position, to_position FROM new_entries;
    IF of_partition IS NULL THEN
        RETURN NULL;
    END IF;
    IF of_partition <> last_partition OR EXISTS (
        SELECT FROM transactions WHERE log_partition = of_partition AND position BETWEEN from_position AND to_position
    ) THEN
        RAISE check_violation USING MESSAGE = 'the transaction is complete: its entries come before it, at once',
            CONSTRAINT = 'entries_complete';
    END IF;
    WITH steps AS MATERIALIZED (
        SELECT e.position, e.amount, e.balance, e.version, b.asset, b.account_id, b.path,
            coalesce(lag(e.balance) OVER w, b.balance) AS balance_before,
            coalesce(lag(e.version) OVER w, b.version) AS version_before
        FROM new_entries e LEFT JOIN balances b USING (balance_id)
        WINDOW w AS (PARTITION BY e.balance_id ORDER BY e.version)
    )
    SELECT CASE
        WHEN EXISTS (
            SELECT FROM steps GROUP BY position, asset HAVING sum(amount) IS DISTINCT FROM 0 OR asset IS NULL
        ) THEN 'entries_sum_to_zero'
        WHEN EXISTS (
            SELECT FROM steps
            WHERE balance < 0 AND account_id NOT LIKE 'house/%' AND path !~ '^(cash|position)/owed'
        ) THEN 'customers_not_negative'
        WHEN EXISTS (
            SELECT FROM steps
            WHERE balance IS DISTINCT FROM balance_before + amount OR version IS DISTINCT FROM version_before + 1
        ) THEN 'entries_continue'
    END INTO broken;
    IF broken IS NOT NULL THEN
        RAISE check_violation USING MESSAGE = format('entries break the rule %s', broken), CONSTRAINT = broken;
    END IF;
    UPDATE balances b SET balance = latest.balance, version = latest.version
    FROM (SELECT DISTINCT ON (balance_id) * FROM new_entries ORDER BY balance_id, version DESC) latest
    WHERE b.balance_id = latest.balance_id;
    INSERT INTO unposted VALUES (pg_backend_pid(), of_partition, from_position, to_position)
    ON CONFLICT (backend) DO UPDATE SET log_partition = of_partition, first_position = from_position, last_position = to_position;
    RETURN NULL;
END $$;
CREATE TRIGGER post_entries AFTER INSERT ON entries
    REFERENCING NEW TABLE AS new_entries FOR EACH STATEMENT EXECUTE FUNCTION post_entries();

-- Entries without their transactions are nothing. Deferred, for the transactions come after the entries.
CREATE FUNCTION check_posted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp
SET enable_seqscan = off AS $$
BEGIN
    IF NEW.last_position - NEW.first_position + 1 <> (
        SELECT count(*) FROM transactions
        WHERE log_partition = NEW.log_partition AND position BETWEEN NEW.first_position AND NEW.last_position
    ) THEN
        RAISE check_violation USING MESSAGE = 'entries without their transactions', CONSTRAINT = 'entries_complete';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER check_posted AFTER INSERT OR UPDATE ON unposted DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION check_posted();

-- A transaction has all its legs, numbered from 1, or it is none; and it reverses what is no reversal itself.
CREATE FUNCTION check_transactions() RETURNS trigger LANGUAGE plpgsql SET search_path = ledger, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    IF EXISTS (
        SELECT log_partition, position, legs::bigint, legs FROM new_transactions
        EXCEPT
        SELECT log_partition, position, count(*), max(leg) FROM entries
        WHERE position BETWEEN (SELECT min(position) FROM new_transactions) AND (SELECT max(position) FROM new_transactions)
        GROUP BY log_partition, position
    ) THEN
        RAISE check_violation USING MESSAGE = 'a transaction without all its entries', CONSTRAINT = 'entries_complete';
    END IF;
    IF EXISTS (
        SELECT FROM new_transactions t
        LEFT JOIN transactions reversed ON (reversed.log_partition, reversed.position) = (t.log_partition, t.reverses)
        WHERE t.reverses IS NOT NULL AND (reversed.position IS NULL OR reversed.reverses IS NOT NULL)
    ) THEN
        RAISE check_violation USING MESSAGE = 'a reversal of a reversal, or of nothing', CONSTRAINT = 'reverses_an_original';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER check_transactions AFTER INSERT ON transactions
    REFERENCING NEW TABLE AS new_transactions FOR EACH STATEMENT EXECUTE FUNCTION check_transactions();

CREATE FUNCTION refuse_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE insufficient_privilege USING MESSAGE = format('%s is append-only: correct by a reversing transaction', tg_table_name);
END $$;
CREATE TRIGGER transactions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transactions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_edit();
CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_edit();
CREATE TRIGGER commands_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON commands
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_edit();
CREATE TRIGGER settlements_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON settlements
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_edit();
CREATE TRIGGER reconciliations_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_edit();

-- I11: once released, a hold never opens or moves again.
CREATE FUNCTION refuse_second_release() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.draw_amounts, NEW.released) IS DISTINCT FROM (OLD.draw_amounts, OLD.released) THEN
        RAISE check_violation USING MESSAGE = 'the hold is released', CONSTRAINT = 'released_once';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER holds_released_once BEFORE UPDATE ON holds FOR EACH ROW WHEN (OLD.released)
    EXECUTE FUNCTION refuse_second_release();

-- A hold is what a transaction of kind HOLD set aside, for the same account and order.
CREATE FUNCTION check_holds() RETURNS trigger LANGUAGE plpgsql SET search_path = ledger, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    IF EXISTS (
        SELECT FROM new_holds h LEFT JOIN transactions t USING (log_partition, position)
        WHERE (t.kind, t.account_id, t.order_id) IS DISTINCT FROM (3::smallint, h.account_id, h.order_id)
    ) THEN
        RAISE check_violation USING MESSAGE = 'a hold that no transaction made', CONSTRAINT = 'holds_made';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER check_holds AFTER INSERT ON holds
    REFERENCING NEW TABLE AS new_holds FOR EACH STATEMENT EXECUTE FUNCTION check_holds();

GRANT SELECT, INSERT ON accounts, transactions, entries, commands, settlements, reconciliations TO :service;
GRANT SELECT, INSERT (account_id, path, asset, link) ON balances TO :service;
GRANT SELECT, INSERT, UPDATE (draw_paths, draw_amounts, taken_amounts, captured_quantity, done_quantity, released, seal)
    ON holds TO :service;
