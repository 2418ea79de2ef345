-- From a journal of version 2 to one of version 3.
ALTER TABLE batch ADD COLUMN stuck_at REAL;
ALTER TABLE record ADD COLUMN waits_for TEXT;
DROP INDEX record_to_send;
DROP INDEX record_to_send_by_model;
CREATE INDEX record_to_send ON record (job, n)
    WHERE wanted AND status = 'pending' AND batch IS NULL AND claim IS NULL AND waits_for IS NULL;
CREATE INDEX record_to_send_by_model ON record (job, model_id, n)
    WHERE wanted AND status = 'pending' AND batch IS NULL AND claim IS NULL AND waits_for IS NULL;
CREATE INDEX record_waits_for ON record (job, waits_for) WHERE waits_for IS NOT NULL;
CREATE INDEX record_delivered ON record (service, model_id) WHERE status IN ('done', 'check');
