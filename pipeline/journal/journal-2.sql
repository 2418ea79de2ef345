-- From a journal of version 1 to one of version 2.
ALTER TABLE batch ADD COLUMN lane TEXT NOT NULL DEFAULT 'batch' CHECK (lane IN ('batch', 'interactive'));
ALTER TABLE batch ADD COLUMN input_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batch ADD COLUMN result_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batch ADD COLUMN unpacked_at REAL;
ALTER TABLE batch ADD COLUMN whole INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batch ADD COLUMN input_deleted_at REAL;
ALTER TABLE batch ADD COLUMN remote_deleted_at REAL;
UPDATE batch SET unpacked_at = coalesce(ended_at, created_at, planned_at) WHERE state = 'unpacked';
CREATE TABLE upload (
    service       TEXT NOT NULL,
    sha256        TEXT NOT NULL,
    name          TEXT NOT NULL,
    uri           TEXT NOT NULL,
    mime          TEXT NOT NULL,
    bytes         INTEGER NOT NULL,
    expires_at    REAL NOT NULL,
    PRIMARY KEY (service, sha256)
) STRICT, WITHOUT ROWID;
