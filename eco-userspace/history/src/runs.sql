-- SPDX-License-Identifier: Apache-2.0 OR MIT
-- Added by version 2 of carbon_history.db: commands and jobs, each once, when they had ended.
-- Times in Unix milliseconds (UTC); energy, CPU time and carbon as in schema.sql.

CREATE TABLE hardware (
    id           INTEGER PRIMARY KEY,
    host         TEXT NOT NULL,
    cpu          TEXT NOT NULL,
    cpus         INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    gpus         TEXT NOT NULL,
    UNIQUE (host, cpu, cpus, memory_bytes, gpus)
);

CREATE TABLE runs (
    id           INTEGER PRIMARY KEY,
    origin       TEXT NOT NULL,
    key          TEXT NOT NULL,
    name         TEXT NOT NULL,
    user         TEXT,
    started_ms   INTEGER NOT NULL,
    ended_ms     INTEGER NOT NULL,
    command      TEXT,
    exit_status  INTEGER,
    manager      TEXT,
    job          TEXT,
    rank         INTEGER,
    cpu_ns       INTEGER,
    energy_uj    INTEGER,
    idle_uj      INTEGER,
    carbon_ng    INTEGER,
    intensity    INTEGER REFERENCES intensities (id),
    estimated    INTEGER NOT NULL,
    measured_by  TEXT NOT NULL,
    provenance   TEXT,
    git_revision TEXT,
    git_branch   TEXT,
    hardware     INTEGER REFERENCES hardware (id),
    UNIQUE (origin, key)
);
CREATE INDEX runs_by_start ON runs (started_ms);

CREATE TABLE run_meters (
    run       INTEGER NOT NULL REFERENCES runs (id),
    name      TEXT NOT NULL,
    domain    TEXT NOT NULL,
    source    TEXT NOT NULL,
    energy_uj INTEGER NOT NULL,
    PRIMARY KEY (run, name, source)
) WITHOUT ROWID;

-- Parameters are text, metrics are numbers.
CREATE TABLE run_values (
    run   INTEGER NOT NULL REFERENCES runs (id),
    kind  TEXT NOT NULL,
    name  TEXT NOT NULL,
    value NOT NULL,
    PRIMARY KEY (run, kind, name)
) WITHOUT ROWID;
