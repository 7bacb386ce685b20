-- One run. Rows are only ever added: a completed evaluation is never changed.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Content-addressed sources; `files` is a JSON object from path to text.
-- Sources are appended, so that writing one costs the same however many there are.
CREATE TABLE programs (
    number INTEGER PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE,
    files  TEXT NOT NULL
);

-- Measurements in the order in which they were completed.
CREATE TABLE evaluations (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    program   TEXT,
    seed      INTEGER NOT NULL,
    slice     TEXT NOT NULL,
    purpose   TEXT NOT NULL,
    verdict   TEXT NOT NULL,
    cause     TEXT,
    metrics   TEXT NOT NULL,
    telemetry TEXT NOT NULL
);
CREATE INDEX evaluations_by_program ON evaluations (program, purpose);

CREATE TABLE findings (
    evaluation INTEGER NOT NULL REFERENCES evaluations (id),
    rule       TEXT NOT NULL,
    severity   TEXT NOT NULL,
    message    TEXT NOT NULL,
    place      TEXT
);
CREATE INDEX findings_by_evaluation ON findings (evaluation);

-- Curves: little-endian (u64 step, f64 value) pairs.
CREATE TABLE series (
    evaluation INTEGER NOT NULL REFERENCES evaluations (id),
    name       TEXT NOT NULL,
    points     BLOB NOT NULL,
    PRIMARY KEY (evaluation, name)
) WITHOUT ROWID;

-- One row per child; iteration 0 is the reference.
CREATE TABLE iterations (
    iteration  INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    island     INTEGER NOT NULL,
    mutator    TEXT NOT NULL,
    parent     TEXT,
    program    TEXT,
    idea       TEXT NOT NULL,
    cost       TEXT NOT NULL,
    repairs    INTEGER NOT NULL,
    duplicate  INTEGER NOT NULL,
    evaluation INTEGER NOT NULL REFERENCES evaluations (id)
);
CREATE INDEX iterations_by_program ON iterations (program);

CREATE TABLE events (
    seq  INTEGER PRIMARY KEY,
    json TEXT NOT NULL
);
