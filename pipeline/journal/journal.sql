-- What the pipeline knows. Times are seconds since 1970, UTC. Money is whole millionths of a USD.
-- Files of ours are named relative to the state folder, pictures relative to the job folder.

CREATE TABLE workspace (
    id          TEXT NOT NULL,              -- eight hex digits, part of every display name
    folder      TEXT NOT NULL,              -- the outputs folder this journal was made for
    made_at     REAL NOT NULL
) STRICT;

CREATE TABLE job (
    name        TEXT PRIMARY KEY,
    manifest    TEXT NOT NULL,              -- the job manifest that was run last, for people
    published   TEXT,                       -- sha256 of manifest.jsonl as it was last written or read, or of its blocks
    census_at   REAL                        -- when the service was last asked for batches that we do not know
) STRICT;

-- One Batch API job of many requests, or some requests that were asked one by one. It is here before it is sent.
CREATE TABLE batch (
    id            INTEGER PRIMARY KEY,
    job           TEXT NOT NULL,
    service       TEXT NOT NULL CHECK (service IN ('gemini', 'local')),
    model_id      TEXT NOT NULL,
    name          TEXT NOT NULL UNIQUE,     -- the display name at the service, never used twice
    chunk         TEXT NOT NULL,            -- first 24 hex digits of the sha256 of the request file
    attempt       INTEGER NOT NULL,         -- the n-th try to create a batch from this very request file
    requests      INTEGER NOT NULL,
    requests_path TEXT,                     -- the JSONL; NULL for a batch that was found at the service
    answer_bytes  INTEGER NOT NULL,         -- how large its answer is expected to be
    cost          INTEGER NOT NULL,         -- the estimate it was sent under
    state         TEXT NOT NULL CHECK (state IN
                    ('planned',             -- its requests are taken, nothing is sent yet
                     'intent',              -- the create is about to be sent, or its fate is unknown
                     'live',                -- the service has it
                     'ended',               -- the service will add nothing to it
                     'fetched',             -- its whole answer is on our disk
                     'unpacked',            -- every request of it has its outcome
                     'rejected',            -- the service refused to create it: nothing was bought
                     'lost',                -- it was never created: nothing was bought
                     'held')),              -- a person must decide
    input_file    TEXT,                     -- files/…
    remote        TEXT UNIQUE,              -- batches/…
    remote_state  TEXT,                     -- the service's word without its prefix
    result_file   TEXT,                     -- files/…
    answers_path  TEXT,
    answers_sha256 TEXT,
    fetches       INTEGER NOT NULL DEFAULT 0,
    confirmed     INTEGER NOT NULL DEFAULT 0,  -- 1 when two fetches in a row brought the same bytes
    succeeded     INTEGER NOT NULL DEFAULT 0,  -- how many answers the service counts; 0 when it did not say
    note          TEXT,                     -- the service's own words about what went wrong
    planned_at    REAL NOT NULL,
    intent_at     REAL,
    absent_at     REAL,                     -- first complete listing in which a create of unknown fate was not seen
    created_at    REAL,
    ended_at      REAL,
    trouble_at    REAL,                     -- since when the service gives answers that make no sense
    lane          TEXT NOT NULL DEFAULT 'batch' CHECK (lane IN ('batch', 'interactive')),
    input_bytes   INTEGER NOT NULL DEFAULT 0,  -- of the request file
    result_bytes  INTEGER NOT NULL DEFAULT 0,  -- of the answer file
    unpacked_at   REAL,
    whole         INTEGER NOT NULL DEFAULT 0,  -- 1 when every request had an answer of its own that could be read
    input_deleted_at REAL,                  -- since when the service holds its input file no more
    remote_deleted_at REAL,                 -- since when it holds neither the batch nor its result file
    stuck_at      REAL,                     -- when it was cancelled because it took too long
    UNIQUE (job, chunk, attempt)
) STRICT;
CREATE INDEX batch_open ON batch (job, state) WHERE state NOT IN ('unpacked', 'rejected', 'lost');

-- A request as it went into a batch, and what became of it.
CREATE TABLE asked (
    batch         INTEGER NOT NULL REFERENCES batch (id),
    wire_key      TEXT NOT NULL,
    job           TEXT NOT NULL,
    key           TEXT NOT NULL,
    fingerprint   TEXT NOT NULL,
    attempt       INTEGER NOT NULL,         -- the n-th time this ask was sent
    status        TEXT,                     -- NULL until there is an outcome; 'proof' for one that was not kept
    reason        TEXT,
    cost          INTEGER,                  -- what it came to, from the usage the service told
    answer_at     INTEGER,                  -- where its line starts in the answer file, in bytes
    answer_bytes  INTEGER,
    PRIMARY KEY (batch, wire_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX asked_ask ON asked (job, fingerprint);

-- The newest that is known of each ask of each request.
CREATE TABLE record (
    job           TEXT NOT NULL,
    key           TEXT NOT NULL,
    fingerprint   TEXT NOT NULL,
    wire_key      TEXT NOT NULL,
    model_id      TEXT NOT NULL,
    path          TEXT NOT NULL,            -- below the job folder, without extension
    status        TEXT NOT NULL,
    transient     INTEGER NOT NULL DEFAULT 0,  -- 1 when the failure may pass by itself
    place         TEXT NOT NULL CHECK (place IN ('tree', 'retired')),  -- where its files are
    wanted        INTEGER NOT NULL,         -- 1 while the job asks for it
    n             INTEGER NOT NULL DEFAULT 0,  -- its place in the job's own order when it was opened
    service       TEXT NOT NULL,
    batch         INTEGER REFERENCES batch (id),  -- the batch it was last sent in
    claim         TEXT,                     -- batches/…: an output manifest says it is in there, this journal does not know
    attempts      INTEGER NOT NULL,
    reopened      INTEGER NOT NULL DEFAULT 0,  -- how many attempts there were when a person opened it again
    expiries      INTEGER NOT NULL DEFAULT 0,  -- how often a whole batch expired around it
    cost          INTEGER,                  -- the estimate; NULL when the price is unknown
    answer_bytes  INTEGER NOT NULL,
    line          TEXT NOT NULL,            -- the record as it is published: JSON
    waits_for     TEXT,                     -- the key of the turn it goes on from, while that has no answer here
    PRIMARY KEY (job, key, fingerprint)
) STRICT;
CREATE INDEX record_ask ON record (job, fingerprint);
CREATE INDEX record_path ON record (job, path);
CREATE INDEX record_wire_key ON record (job, wire_key);
CREATE INDEX record_to_send ON record (job, n)
    WHERE wanted AND status = 'pending' AND batch IS NULL AND claim IS NULL AND waits_for IS NULL;
CREATE INDEX record_to_send_by_model ON record (job, model_id, n)
    WHERE wanted AND status = 'pending' AND batch IS NULL AND claim IS NULL AND waits_for IS NULL;
CREATE INDEX record_waits_for ON record (job, waits_for) WHERE waits_for IS NOT NULL;
CREATE INDEX record_delivered ON record (service, model_id) WHERE status IN ('done', 'check');
CREATE INDEX record_claim ON record (job, claim) WHERE claim IS NOT NULL;

-- A file that we published, as it was then: what differs from this was edited by somebody.
CREATE TABLE file (
    job           TEXT NOT NULL,
    path          TEXT NOT NULL,
    sha256        TEXT NOT NULL,
    bytes         INTEGER NOT NULL,
    mtime_ns      INTEGER NOT NULL,         -- together with bytes: unchanged means not edited
    PRIMARY KEY (job, path)
) STRICT, WITHOUT ROWID;

-- A reference image at the service, for all jobs of the outputs folder.
CREATE TABLE upload (
    service       TEXT NOT NULL,
    sha256        TEXT NOT NULL,            -- of the image
    name          TEXT NOT NULL,            -- files/…
    uri           TEXT NOT NULL,            -- what a request names
    mime          TEXT NOT NULL,
    bytes         INTEGER NOT NULL,
    expires_at    REAL NOT NULL,            -- by the service's clock
    PRIMARY KEY (service, sha256)
) STRICT, WITHOUT ROWID;

-- What happened, in order, for people who look for a reason.
CREATE TABLE event (
    id            INTEGER PRIMARY KEY,
    at            REAL NOT NULL,
    job           TEXT NOT NULL,
    kind          TEXT NOT NULL,
    detail        TEXT NOT NULL             -- JSON
) STRICT;

-- What a job that is at rest was compared with, and what came out: a call that finds all of it unchanged has its answer.
-- Whatever changes what is recorded of the job takes it away, so that nobody can forget to.
CREATE TABLE rest (
    job           TEXT PRIMARY KEY,
    manifest      TEXT NOT NULL,            -- the path of the job manifest
    told          TEXT NOT NULL,            -- JSON
    rows          BLOB                      -- its catalog in blocks; NULL for one whose rows depend on each other
) STRICT;
CREATE TRIGGER record_came AFTER INSERT ON record BEGIN DELETE FROM rest WHERE job = NEW.job; END;
CREATE TRIGGER record_left AFTER DELETE ON record BEGIN DELETE FROM rest WHERE job = OLD.job; END;
CREATE TRIGGER record_changed AFTER UPDATE ON record BEGIN DELETE FROM rest WHERE job IN (OLD.job, NEW.job); END;
CREATE TRIGGER file_came AFTER INSERT ON file BEGIN DELETE FROM rest WHERE job = NEW.job; END;
CREATE TRIGGER file_left AFTER DELETE ON file BEGIN DELETE FROM rest WHERE job = OLD.job; END;
CREATE TRIGGER file_changed AFTER UPDATE ON file BEGIN DELETE FROM rest WHERE job IN (OLD.job, NEW.job); END;
CREATE TRIGGER batch_came AFTER INSERT ON batch BEGIN DELETE FROM rest WHERE job = NEW.job; END;
CREATE TRIGGER batch_left AFTER DELETE ON batch BEGIN DELETE FROM rest WHERE job = OLD.job; END;
CREATE TRIGGER batch_changed AFTER UPDATE ON batch BEGIN DELETE FROM rest WHERE job IN (OLD.job, NEW.job); END;
CREATE TRIGGER asked_came AFTER INSERT ON asked BEGIN DELETE FROM rest WHERE job = NEW.job; END;
CREATE TRIGGER asked_left AFTER DELETE ON asked BEGIN DELETE FROM rest WHERE job = OLD.job; END;
CREATE TRIGGER asked_changed AFTER UPDATE ON asked BEGIN DELETE FROM rest WHERE job IN (OLD.job, NEW.job); END;

-- How the output manifest of a job lies on the disk since it was written last: with that, what has not changed is
-- copied, and not written anew. It says nothing of any other file than the very ones it was written down for.
CREATE TABLE layout (
    job           TEXT PRIMARY KEY,
    told          TEXT NOT NULL             -- JSON
) STRICT;
