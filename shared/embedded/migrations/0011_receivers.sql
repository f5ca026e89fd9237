-- Who is notified when a request is ready or has failed: names, separated by commas.
ALTER TABLE requests ADD COLUMN receivers TEXT NOT NULL DEFAULT '';
UPDATE requests SET receivers = 'webhook' WHERE callback_url IS NOT NULL;

-- Those of them that the last try did not reach; NULL: all of them are to be notified.
ALTER TABLE requests ADD COLUMN notify_left TEXT;
