-- What hooks judged an evaluation by, as JSON; artifacts by their path within the run's folder. Only
-- for evaluations that have any.
CREATE TABLE evidence (
    evaluation INTEGER PRIMARY KEY REFERENCES evaluations (id),
    json       TEXT NOT NULL
);
