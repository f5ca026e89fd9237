-- When a request was added to it last.
ALTER TABLE torrents ADD COLUMN stored_at BIGINT NOT NULL DEFAULT 0;
