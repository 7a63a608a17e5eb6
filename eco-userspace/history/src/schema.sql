-- SPDX-License-Identifier: Apache-2.0 OR MIT
-- Version 1 of carbon_history.db; runs.sql makes it version 2. docs/history.md explains it; keep the two together.
--
-- Times `at` are Unix seconds (UTC), the start of a row's second, minute or hour. Energy is in
-- whole microjoules, CPU time in nanoseconds, carbon in nanograms of CO2e. NULL: not known.

CREATE TABLE facts (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE events (
    id   INTEGER PRIMARY KEY,
    at   INTEGER NOT NULL,
    what TEXT NOT NULL
);

CREATE TABLE units (
    id        INTEGER PRIMARY KEY,
    kind      TEXT NOT NULL,
    name      TEXT NOT NULL,
    title     TEXT NOT NULL,
    user      TEXT,
    namespace TEXT,
    manager   TEXT,
    first_at  INTEGER NOT NULL,
    last_at   INTEGER NOT NULL,
    UNIQUE (kind, name)
);

CREATE TABLE meters (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL,
    domain    TEXT NOT NULL,
    device    TEXT NOT NULL,
    source    TEXT NOT NULL,
    estimated INTEGER NOT NULL,
    UNIQUE (domain, device, source)
);

CREATE TABLE intensities (
    id        INTEGER PRIMARY KEY,
    zone      TEXT NOT NULL,
    g_per_kwh REAL NOT NULL,
    kind      TEXT NOT NULL,
    source    TEXT NOT NULL,
    estimated INTEGER NOT NULL,
    pue       REAL NOT NULL,
    UNIQUE (zone, g_per_kwh, kind, source, estimated, pue)
);
