-- The row that the health check writes.
CREATE TABLE health (
    id     BIGINT PRIMARY KEY,
    writes BIGINT NOT NULL
);
