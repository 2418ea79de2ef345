-- How wanted requests are found. Made when the table is full, which takes a fraction of keeping them up row by row.
CREATE UNIQUE INDEX temp.wanted_key ON wanted (key);
CREATE INDEX temp.wanted_ask ON wanted (fingerprint);
CREATE INDEX temp.wanted_follows ON wanted (follows) WHERE follows <> '';
CREATE INDEX temp.wanted_waits_for ON wanted (waits_for) WHERE waits_for IS NOT NULL;
CREATE INDEX temp.wanted_wire_key ON wanted (wire_key);
