-- Rules that 0002 left open. Each step may be repeated: for a while 0002 was given out with some of them in it.

ALTER TABLE accounts
    DROP CONSTRAINT IF EXISTS customers_are_not_the_house,
    ADD CONSTRAINT customers_are_not_the_house CHECK (account_id NOT LIKE 'house/%');
ALTER TABLE balances
    DROP CONSTRAINT customers_not_negative,
    ADD CONSTRAINT customers_not_negative CHECK (balance >= 0 OR account_id LIKE 'house/%' OR path ~ '^(cash/owed$|position/owed/)'),
    DROP CONSTRAINT owed_not_positive,
    ADD CONSTRAINT owed_not_positive CHECK (balance <= 0 OR path !~ '^(cash/owed$|position/owed/)');
DROP INDEX balances_owed;
CREATE INDEX balances_owed ON balances (balance_id) WHERE path ~ '^(cash/owed$|position/owed/)';
ALTER TABLE transactions
    DROP CONSTRAINT IF EXISTS positions_count_from_1,
    ADD CONSTRAINT positions_count_from_1 CHECK (position >= 1);
ALTER TABLE holds
    DROP CONSTRAINT draws_not_negative,
    ADD CONSTRAINT draws_not_negative CHECK (0 <= ALL (draw_amounts) AND array_position(draw_amounts, NULL) IS NULL);
ALTER TABLE reconciliations
    DROP CONSTRAINT reconciliations_pkey,
    ADD PRIMARY KEY (log_partition, link);

-- Now one posting at a time in the whole database, and the same rule for what is owed as above.
CREATE OR REPLACE FUNCTION post_entries() RETURNS trigger
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
    -- One posting at a time, to its commit, for balances belong to no partition: what is read below stays true.
    PERFORM pg_advisory_xact_lock(hashtext('openbell ledger'));
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
            WHERE balance < 0 AND account_id NOT LIKE 'house/%' AND path !~ '^(cash/owed$|position/owed/)'
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

-- Else the role could hang them on a table of its own.
REVOKE EXECUTE ON FUNCTION post_entries, check_posted, check_transactions, check_holds, refuse_edit, refuse_second_release
    FROM PUBLIC;
