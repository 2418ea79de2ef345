-- From a journal of version 4 to one of version 5.
CREATE TABLE layout (
    job           TEXT PRIMARY KEY,
    told          TEXT NOT NULL
) STRICT;
