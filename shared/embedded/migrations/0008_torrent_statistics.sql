-- What peers have received. It replaces the resume data of the seeder.
ALTER TABLE torrents ADD COLUMN uploaded_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE torrents ADD COLUMN completed BIGINT NOT NULL DEFAULT 0;
