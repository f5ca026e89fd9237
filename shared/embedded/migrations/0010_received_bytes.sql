-- How much of the content the last fetch has received, and how much that will be; NULL: not known.
ALTER TABLE requests ADD COLUMN received_bytes INTEGER;
ALTER TABLE requests ADD COLUMN total_bytes INTEGER;
