-- What the job asks for now, compared with the records: made anew by each run, in a file that SQLite removes itself.
-- A request is new until it is compared; the indexes come once all are there (wanted_indexes.sql).
CREATE TEMP TABLE wanted (
    n             INTEGER PRIMARY KEY,      -- the job's own order
    key           TEXT NOT NULL,
    turn          INTEGER NOT NULL,         -- of a conversation; 1 where there is none
    follows       TEXT NOT NULL,            -- the key of the turn it goes on from; empty where there is none
    fingerprint   TEXT NOT NULL,
    wire_key      TEXT NOT NULL,
    model_id      TEXT NOT NULL,
    aspect        TEXT NOT NULL,            -- these three as a plan names them, the first two empty for words alone
    size          TEXT NOT NULL,
    extras        TEXT NOT NULL,
    path          TEXT NOT NULL,            -- empty for a turn whose image is not kept
    cost          INTEGER,
    upper_bound   INTEGER,
    answer_bytes  INTEGER NOT NULL,
    input_bytes   INTEGER NOT NULL,
    images        TEXT NOT NULL,            -- [sha256, bytes] of each reference image, as JSON; empty for none
    max_age_s     REAL,                     -- an older result is asked for again
    line          TEXT NOT NULL,
    late_cost     INTEGER,                  -- what it costs asked for one by one; NULL where that is never done
    late_bound    INTEGER,
    singly        INTEGER NOT NULL DEFAULT 0,  -- 1 when its batch expired, and it is asked for one by one now
    state         TEXT DEFAULT 'new',       -- new changed done edited moved pending failed, or outside the selection
    why           TEXT DEFAULT '',
    open          INTEGER DEFAULT 1,        -- 1 when it would be bought
    anew          INTEGER DEFAULT 0,        -- 1 when its retries are counted from here on
    moved_from    TEXT,                     -- the key whose record it takes over
    waits_for     TEXT,                     -- the key of the turn whose answer must come first
    wave          INTEGER NOT NULL DEFAULT 1  -- how many times batches must come home until it is there
) STRICT;
-- Reference images that go to the service once, as files, and not along with each request that shows them.
CREATE TEMP TABLE IF NOT EXISTS shared (sha256 TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
DELETE FROM temp.shared;
