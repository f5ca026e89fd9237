-- The columns are those of SQLite (shared/embedded/migrations). Times are milliseconds since the Unix epoch; hashes and
-- ids are text, compared by their bytes.

CREATE TABLE requests (
    id             TEXT COLLATE "C" PRIMARY KEY,
    owner          TEXT COLLATE "C" NOT NULL,
    client_ip      TEXT,
    url            TEXT NOT NULL,
    method         TEXT NOT NULL,
    headers        TEXT NOT NULL,
    -- Text in UTF-8, which may have NUL characters.
    body           BYTEA,
    sha256         TEXT,
    format         TEXT NOT NULL,
    ttl            BIGINT NOT NULL,
    keep_for       BIGINT NOT NULL,
    fingerprint    TEXT COLLATE "C" NOT NULL,
    callback_url   TEXT,
    webseed        BOOLEAN NOT NULL,
    history        BIGINT NOT NULL,
    -- Who is notified when the request is ready or has failed: names, separated by commas.
    receivers      TEXT NOT NULL,
    status         TEXT COLLATE "C" NOT NULL,
    progress       BIGINT NOT NULL,
    received_bytes BIGINT,
    total_bytes    BIGINT,
    retry_count    BIGINT NOT NULL,
    content_hash   TEXT COLLATE "C",
    content_size   BIGINT,
    content_type   TEXT,
    file_name      TEXT,
    final_url      TEXT,
    origin_status  BIGINT,
    fetched_at     BIGINT,
    checkpoint     TEXT,
    infohash       TEXT COLLATE "C",
    infohash_v2    TEXT,
    error_code     TEXT,
    error_message  TEXT,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    completed_at   BIGINT,
    expires_at     BIGINT,
    -- When the step of the status is due; the end of the lease while there is one.
    due_at         BIGINT,
    lease          TEXT,
    -- The ids of the requests that wait for the end of its fetch, each with a space behind it.
    waiting        TEXT NOT NULL DEFAULT '',
    notify_at      BIGINT,
    notify_tries   BIGINT NOT NULL DEFAULT 0,
    -- The receivers that the last try did not reach; NULL: all.
    notify_left    TEXT
);

CREATE INDEX requests_by_owner ON requests (owner, id);
CREATE INDEX requests_by_owner_and_status ON requests (owner, status, id);
CREATE INDEX requests_by_due_time ON requests (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX requests_by_notification ON requests (notify_at) WHERE notify_at IS NOT NULL;
CREATE INDEX requests_by_fingerprint ON requests (fingerprint, status, id);
CREATE INDEX requests_by_content ON requests (content_hash) WHERE content_hash IS NOT NULL;
CREATE INDEX requests_by_end_of_history ON requests ((updated_at + history * 1000))
    WHERE due_at IS NULL AND status IN ('failed', 'cancelled', 'expired');

CREATE TABLE torrents (
    infohash       TEXT COLLATE "C" PRIMARY KEY,
    infohash_v2    TEXT,
    content_hash   TEXT COLLATE "C" NOT NULL,
    name           TEXT NOT NULL,
    size           BIGINT NOT NULL,
    piece_length   BIGINT NOT NULL,
    state          TEXT NOT NULL,
    version        BIGINT NOT NULL,
    created_at     BIGINT NOT NULL,
    -- When a request was added to it last.
    stored_at      BIGINT NOT NULL,
    uploaded_bytes BIGINT NOT NULL DEFAULT 0,
    completed      BIGINT NOT NULL DEFAULT 0,
    -- The metainfo file, and when it was stored.
    metainfo       BYTEA NOT NULL,
    written_at     BIGINT NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::BIGINT
);

CREATE INDEX torrents_by_content ON torrents (content_hash);

-- Keys that one caller reserves, such as nonces.
CREATE TABLE guards (
    name       TEXT COLLATE "C" PRIMARY KEY,
    value      TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX guards_by_expiry ON guards (expires_at);

-- What is generated once for all instances, such as the secret of the tracker.
CREATE TABLE properties (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- The row that the health check writes.
CREATE TABLE health (
    id     BIGINT PRIMARY KEY,
    writes BIGINT NOT NULL
);

-- The registered seeders, as JSON. Logged: if a crash emptied it, the first to register would take all torrents.
CREATE TABLE seeders (
    id         TEXT COLLATE "C" PRIMARY KEY,
    value      TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- The tasks that were sent to seeders, as JSON.
CREATE UNLOGGED TABLE seeder_tasks (
    number     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seeder     TEXT COLLATE "C" NOT NULL,
    value      TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX seeder_tasks_by_seeder ON seeder_tasks (seeder, number);
CREATE INDEX seeder_tasks_by_expiry ON seeder_tasks (expires_at);

-- The peers that the tracker knows. A crash of the database loses them, and they announce themselves again.
CREATE UNLOGGED TABLE peers (
    infohash   TEXT COLLATE "C" NOT NULL,
    address    TEXT COLLATE "C" NOT NULL,
    -- The network that one customer has.
    network    TEXT COLLATE "C" NOT NULL,
    peer_id    BYTEA NOT NULL,
    is_seed    BOOLEAN NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (infohash, address)
);

CREATE INDEX peers_by_network ON peers (infohash, network, expires_at);
CREATE INDEX peers_by_expiry ON peers (expires_at);

-- Uses that rate limits count, until they leave their window. A crash of the database resets them.
CREATE UNLOGGED TABLE rate_limit_uses (
    key       TEXT COLLATE "C" NOT NULL,
    -- The length of the window in milliseconds.
    period    BIGINT NOT NULL,
    leaves_at BIGINT NOT NULL,
    uses      BIGINT NOT NULL,
    PRIMARY KEY (key, period, leaves_at)
);

CREATE INDEX rate_limit_uses_by_time ON rate_limit_uses (leaves_at);

-- Counts one use against each of the limits, if all of them allow it. `wanted` is a JSON array of limits, each with its
-- key, its most uses and its window in milliseconds. Returns a row for each limit, in their order: whether the use is
-- allowed, the uses in the window, and when the first of them leaves it.
CREATE FUNCTION count_use(wanted TEXT, at BIGINT) RETURNS TABLE (allowed BOOLEAN, used BIGINT, leaves BIGINT)
LANGUAGE plpgsql AS $$
DECLARE
    is_allowed BOOLEAN;
BEGIN
    -- Uses of a key are counted one after the other. In one order, so that no two callers wait for each other.
    PERFORM pg_advisory_xact_lock(locks.lock) FROM (
        SELECT DISTINCT hashtextextended(wish.key, 0) AS lock
        FROM json_to_recordset(wanted::json) AS wish (key TEXT) ORDER BY lock
    ) AS locks;

    SELECT bool_and(counted.used < counted.most) INTO is_allowed FROM (
        SELECT wish.most, coalesce(sum(one.uses), 0) AS used
        FROM json_to_recordset(wanted::json) AS wish (key TEXT, period BIGINT, most BIGINT)
        LEFT JOIN rate_limit_uses one ON one.key = wish.key AND one.period = wish.period AND one.leaves_at > at
        GROUP BY wish.key, wish.period, wish.most
    ) AS counted;

    IF is_allowed THEN
        -- Uses within a hundredth of the window are counted together, as if all happened at its end.
        INSERT INTO rate_limit_uses (key, period, leaves_at, uses)
        SELECT DISTINCT wish.key, wish.period,
            (at / greatest(wish.period / 100, 1) + 1) * greatest(wish.period / 100, 1) + wish.period, 1
        FROM json_to_recordset(wanted::json) AS wish (key TEXT, period BIGINT)
        ON CONFLICT (key, period, leaves_at) DO UPDATE SET uses = rate_limit_uses.uses + 1;
    END IF;

    RETURN QUERY
        SELECT is_allowed, coalesce(sum(one.uses), 0)::BIGINT, min(one.leaves_at)
        FROM json_array_elements(wanted::json) WITH ORDINALITY AS wish (value, number)
        LEFT JOIN rate_limit_uses one ON one.key = wish.value ->> 'key'
            AND one.period = (wish.value ->> 'period')::BIGINT AND one.leaves_at > at
        GROUP BY wish.number ORDER BY wish.number;

    -- In small batches, so that no caller waits for a large clean-up.
    DELETE FROM rate_limit_uses WHERE ctid IN (
        SELECT one.ctid FROM rate_limit_uses one WHERE one.leaves_at <= at LIMIT 16 FOR UPDATE SKIP LOCKED
    );
END
$$;
