-- From a journal of version 3 to one of version 4.
CREATE TABLE rest (
    job           TEXT PRIMARY KEY,
    manifest      TEXT NOT NULL,
    told          TEXT NOT NULL,
    rows          BLOB
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
