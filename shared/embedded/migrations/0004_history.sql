-- For how many seconds a row is kept after its end.
ALTER TABLE requests ADD COLUMN history BIGINT NOT NULL DEFAULT 2592000;

CREATE INDEX requests_by_forgetting ON requests (updated_at + history * 1000)
    WHERE due_at IS NULL AND status IN ('failed', 'cancelled', 'expired');
