-- Where a fetch was left off, to be gone on with.
ALTER TABLE requests ADD COLUMN checkpoint TEXT;
