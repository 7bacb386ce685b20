-- What mutators asked models, and what came back. Texts are stored once: instructions are the same in
-- most calls.
CREATE TABLE texts (
    number INTEGER PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE,
    text   TEXT NOT NULL
);

-- Messages are a JSON list of [role, number of the text].
CREATE TABLE calls (
    number     INTEGER PRIMARY KEY,
    key        TEXT NOT NULL UNIQUE,
    iteration  INTEGER NOT NULL,
    model      TEXT NOT NULL,
    purpose    TEXT NOT NULL,
    parameters TEXT NOT NULL,
    seed       INTEGER NOT NULL,
    ordinal    INTEGER NOT NULL,
    messages   TEXT NOT NULL,
    answer     TEXT NOT NULL
);

-- Normal forms of programs, each with the first program that has it.
CREATE TABLE forms (
    form    TEXT PRIMARY KEY,
    program TEXT NOT NULL
) WITHOUT ROWID;
