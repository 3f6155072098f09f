-- The ledger's truth. Amounts are in units of the asset: 1/10,000 dollar for cash ($USD), whole shares for a symbol; credits are
-- positive. PostgreSQL itself refuses what does not balance, what edits, and what takes a customer below zero.

CREATE TABLE accounts (
    account_id text PRIMARY KEY,
    customer_id text NOT NULL,
    opened_at_ns bigint NOT NULL
);

-- The last entry's balance of each (account, path). Nobody sets it: the trigger on entries does.
CREATE TABLE balances (
    balance_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text NOT NULL,
    path text NOT NULL,
    asset text NOT NULL,
    balance bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 0,
    CONSTRAINT balances_account_path UNIQUE (account_id, path),
    CONSTRAINT customers_not_negative CHECK (balance >= 0 OR account_id LIKE 'house/%' OR path ~ '^(cash|position)/owed'),
    CONSTRAINT owed_not_positive CHECK (balance <= 0 OR path !~ '^(cash|position)/owed'),
    CONSTRAINT asset_fits_path CHECK (
        asset = CASE WHEN path ~ '^(position|street)/' THEN regexp_replace(path, '^.*/', '') ELSE '$USD' END
    )
);

-- The transaction table is the log: dense positions, one fenced writer a partition.
CREATE TABLE transactions (
    log_partition int NOT NULL,
    position bigint NOT NULL,
    kind smallint NOT NULL,          -- openbell.ledger.v1.TransactionKind
    legs smallint NOT NULL,
    effective_date date NOT NULL,
    requested_at_ns bigint NOT NULL,
    recorded_at_ns bigint NOT NULL,
    account_id text NOT NULL,
    order_id text,
    hold_id text,
    execution_id text,
    trace_id bytea NOT NULL,
    span_id bytea NOT NULL,
    PRIMARY KEY (log_partition, position),
    CONSTRAINT transactions_have_legs CHECK (legs >= 2),
    CONSTRAINT trace_id_is_16_bytes CHECK (length(trace_id) = 16),
    CONSTRAINT span_id_is_8_bytes CHECK (length(span_id) = 8)
);
CREATE INDEX transactions_order ON transactions (order_id) WHERE order_id IS NOT NULL;
-- I2: an execution is posted once.
CREATE UNIQUE INDEX transactions_execution ON transactions (execution_id) WHERE execution_id IS NOT NULL AND kind = 6;

CREATE TABLE entries (
    log_partition int NOT NULL,
    position bigint NOT NULL,
    leg smallint NOT NULL CONSTRAINT legs_count_from_1 CHECK (leg >= 1),
    balance_id bigint NOT NULL REFERENCES balances,
    amount bigint NOT NULL,
    balance bigint NOT NULL,   -- of balance_id after this entry
    version bigint NOT NULL,   -- counts the entries of balance_id from 1
    PRIMARY KEY (log_partition, position, leg),
    -- Deferred: entries come first, so that the transaction's own insert can count them.
    CONSTRAINT entries_transaction FOREIGN KEY (log_partition, position) REFERENCES transactions
        DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT entries_version UNIQUE (balance_id, version),
    CONSTRAINT entries_move_something CHECK (amount <> 0)
);

-- Funds or shares set aside for one order. Named by the position of the transaction that made it.
CREATE TABLE holds (
    log_partition int NOT NULL,
    position bigint NOT NULL,
    account_id text NOT NULL REFERENCES accounts,
    order_id text NOT NULL CONSTRAINT holds_order UNIQUE,
    asset text NOT NULL,
    draw_paths text[] NOT NULL,      -- where it took from, in the order of taking
    draw_amounts bigint[] NOT NULL,  -- and how much of it is still held
    captured_quantity bigint NOT NULL DEFAULT 0,  -- shares executed
    done_quantity bigint,            -- CumQty(14) of the report that ended the order
    released boolean NOT NULL DEFAULT false,
    created_at_ns bigint NOT NULL,
    idempotency_key text NOT NULL,
    PRIMARY KEY (log_partition, position),
    FOREIGN KEY (log_partition, position) REFERENCES transactions,
    CONSTRAINT holds_key UNIQUE (account_id, idempotency_key),
    CONSTRAINT draws_match CHECK (cardinality(draw_paths) = cardinality(draw_amounts)),
    CONSTRAINT draws_not_negative CHECK (0 <= ALL (draw_amounts)),
    CONSTRAINT released_holds_nothing CHECK (NOT released OR 0 = ALL (draw_amounts))
);
CREATE INDEX holds_open ON holds (created_at_ns) WHERE NOT released;

-- Stored answers: the same key gives the same answer, refusals included.
CREATE TABLE commands (
    scope text NOT NULL,   -- the account, or for OpenAccount the customer
    key text NOT NULL,
    request_hash bytea NOT NULL,
    answer bytea,          -- the response, or
    refusal jsonb,         -- {reason, message, metadata}
    recorded_at_ns bigint NOT NULL,
    PRIMARY KEY (scope, key),
    CONSTRAINT answered_or_refused CHECK ((answer IS NULL) <> (refusal IS NULL))
);

-- Runs once a statement, as the owner: the service may insert entries, but never set a balance.
CREATE FUNCTION post_entries() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM new_entries e LEFT JOIN balances b USING (balance_id)
        GROUP BY e.log_partition, e.position, b.asset HAVING sum(e.amount) IS DISTINCT FROM 0
    ) THEN
        RAISE check_violation USING MESSAGE = 'entries do not sum to zero', CONSTRAINT = 'entries_sum_to_zero';
    END IF;
    IF EXISTS (SELECT FROM new_entries JOIN transactions USING (log_partition, position)) THEN
        RAISE check_violation USING MESSAGE = 'the transaction is complete: its entries come before it',
            CONSTRAINT = 'entries_complete';
    END IF;
    IF EXISTS (
        SELECT FROM new_entries e JOIN balances b USING (balance_id)
        WHERE e.balance < 0 AND b.account_id NOT LIKE 'house/%' AND b.path !~ '^(cash|position)/owed'
    ) THEN
        RAISE check_violation USING MESSAGE = 'a customer below zero', CONSTRAINT = 'customers_not_negative';
    END IF;
    IF EXISTS (
        SELECT FROM (
            SELECT e.*, coalesce(lag(e.balance) OVER w, b.balance) AS balance_before,
                coalesce(lag(e.version) OVER w, b.version) AS version_before
            FROM new_entries e JOIN balances b USING (balance_id)
            WINDOW w AS (PARTITION BY e.balance_id ORDER BY e.version)
        ) steps
        WHERE balance IS DISTINCT FROM balance_before + amount OR version IS DISTINCT FROM version_before + 1
    ) THEN
        RAISE check_violation USING MESSAGE = 'entries do not continue the balance', CONSTRAINT = 'entries_continue';
    END IF;
    UPDATE balances b SET balance = latest.balance, version = latest.version
    FROM (SELECT DISTINCT ON (balance_id) * FROM new_entries ORDER BY balance_id, version DESC) latest
    WHERE b.balance_id = latest.balance_id;
    RETURN NULL;
END $$;
CREATE TRIGGER post_entries AFTER INSERT ON entries
    REFERENCING NEW TABLE AS new_entries FOR EACH STATEMENT EXECUTE FUNCTION post_entries();

-- A transaction has all its legs, numbered from 1, or it is none.
CREATE FUNCTION count_entries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM new_transactions t
        LEFT JOIN entries e USING (log_partition, position)
        GROUP BY t.log_partition, t.position, t.legs
        HAVING count(e.leg) <> t.legs OR max(e.leg) <> t.legs
    ) THEN
        RAISE check_violation USING MESSAGE = 'a transaction without all its entries', CONSTRAINT = 'entries_complete';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER count_entries AFTER INSERT ON transactions
    REFERENCING NEW TABLE AS new_transactions FOR EACH STATEMENT EXECUTE FUNCTION count_entries();

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
CREATE FUNCTION check_holds() RETURNS trigger LANGUAGE plpgsql AS $$
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

GRANT SELECT, INSERT ON accounts, transactions, entries, commands TO :service;
GRANT SELECT, INSERT (account_id, path, asset) ON balances TO :service;
GRANT SELECT, INSERT, UPDATE (draw_paths, draw_amounts, captured_quantity, done_quantity, released) ON holds TO :service;
