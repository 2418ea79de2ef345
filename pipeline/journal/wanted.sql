-- What the job asks for now, compared with the records: made anew by each run, in a file that SQLite removes itself.
CREATE TEMP TABLE wanted (
    n             INTEGER PRIMARY KEY,      -- the job's own order
    key           TEXT NOT NULL UNIQUE,
    fingerprint   TEXT NOT NULL,
    wire_key      TEXT NOT NULL,
    model_id      TEXT NOT NULL,
    path          TEXT NOT NULL,
    cost          INTEGER,
    upper_bound   INTEGER,
    answer_bytes  INTEGER NOT NULL,
    input_bytes   INTEGER NOT NULL,
    line          TEXT NOT NULL,
    state         TEXT,                     -- new changed done edited moved pending failed
    why           TEXT,
    open          INTEGER,                  -- 1 when it would be bought
    moved_from    TEXT                      -- the key whose record it takes over
) STRICT;
CREATE INDEX temp.wanted_ask ON wanted (fingerprint);
CREATE INDEX temp.wanted_wire_key ON wanted (wire_key);
