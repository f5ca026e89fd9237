-- Whether the torrent of a request may name a webseed.
ALTER TABLE requests ADD COLUMN webseed BOOLEAN NOT NULL DEFAULT 1;
