-- What stands under a guard's name: the answer to a request with an Idempotency-Key, say.
ALTER TABLE guards ADD COLUMN value TEXT NOT NULL DEFAULT '';

CREATE INDEX requests_by_owner_and_status ON requests (owner, status, id);

-- Where the end of a request is told, when the next try is due, and how many there were.
ALTER TABLE requests ADD COLUMN callback_url TEXT;
ALTER TABLE requests ADD COLUMN notify_at BIGINT;
ALTER TABLE requests ADD COLUMN notify_tries BIGINT NOT NULL DEFAULT 0;

CREATE INDEX requests_by_notification ON requests (notify_at) WHERE notify_at IS NOT NULL;
