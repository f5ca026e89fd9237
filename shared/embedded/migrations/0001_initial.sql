-- Times are milliseconds since the Unix epoch; hashes and ids are text, as the API shows them.

CREATE TABLE requests (
    id            TEXT PRIMARY KEY,
    owner         TEXT NOT NULL,
    client_ip     TEXT,
    url           TEXT NOT NULL,
    method        TEXT NOT NULL,
    headers       TEXT NOT NULL,
    body          TEXT,
    sha256        TEXT,
    format        TEXT NOT NULL,
    ttl           BIGINT NOT NULL,
    keep_for      BIGINT NOT NULL,
    fingerprint   TEXT NOT NULL,
    status        TEXT NOT NULL,
    progress      BIGINT NOT NULL,
    retry_count   BIGINT NOT NULL,
    content_hash  TEXT,
    content_size  BIGINT,
    content_type  TEXT,
    file_name     TEXT,
    final_url     TEXT,
    origin_status BIGINT,
    fetched_at    BIGINT,
    infohash      TEXT,
    infohash_v2   TEXT,
    error_code    TEXT,
    error_message TEXT,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    completed_at  BIGINT,
    expires_at    BIGINT,
    -- When the step of the status is due; the end of the lease while there is one.
    due_at        BIGINT,
    lease         TEXT
);

CREATE INDEX requests_by_owner ON requests (owner, id);
CREATE INDEX requests_by_due_time ON requests (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX requests_by_fingerprint ON requests (fingerprint, status, id);
CREATE INDEX requests_by_content ON requests (content_hash) WHERE content_hash IS NOT NULL;
CREATE INDEX requests_by_infohash ON requests (infohash, status) WHERE infohash IS NOT NULL;

CREATE TABLE torrents (
    infohash     TEXT PRIMARY KEY,
    infohash_v2  TEXT,
    content_hash TEXT NOT NULL,
    name         TEXT NOT NULL,
    size         BIGINT NOT NULL,
    piece_length BIGINT NOT NULL,
    state        TEXT NOT NULL,
    version      BIGINT NOT NULL,
    created_at   BIGINT NOT NULL
);

CREATE INDEX torrents_by_content ON torrents (content_hash);
CREATE INDEX torrents_by_infohash_v2 ON torrents (infohash_v2) WHERE infohash_v2 IS NOT NULL;

-- Things that may be done once, such as the use of a nonce.
CREATE TABLE guards (
    name       TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

CREATE INDEX guards_by_expiry ON guards (expires_at);
