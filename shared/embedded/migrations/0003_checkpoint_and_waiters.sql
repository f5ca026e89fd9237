-- Where a fetch was left off, to be gone on with.
ALTER TABLE requests ADD COLUMN checkpoint TEXT;

-- The ids of the requests that wait for the end of its fetch, each with a space behind it.
ALTER TABLE requests ADD COLUMN waiting TEXT NOT NULL DEFAULT '';
