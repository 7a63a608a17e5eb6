-- SPDX-License-Identifier: Apache-2.0 OR MIT
-- The tables of one tier of samples; `{tier}` is seconds, minutes or hours.

CREATE TABLE node_{tier} (
    at        INTEGER PRIMARY KEY,
    span_ms   INTEGER NOT NULL,
    cpu_ns    INTEGER NOT NULL,
    carbon_ng INTEGER,
    intensity INTEGER REFERENCES intensities (id),
    g_per_kwh REAL,
    left_out  INTEGER NOT NULL
);

CREATE TABLE meter_{tier} (
    at              INTEGER NOT NULL,
    meter           INTEGER NOT NULL REFERENCES meters (id),
    energy_uj       INTEGER NOT NULL,
    idle_uj         INTEGER NOT NULL,
    unattributed_uj INTEGER NOT NULL,
    downtime_uj     INTEGER NOT NULL,
    PRIMARY KEY (at, meter)
) WITHOUT ROWID;

CREATE TABLE unit_{tier} (
    at         INTEGER NOT NULL,
    unit       INTEGER NOT NULL REFERENCES units (id),
    cpu_ns     INTEGER NOT NULL,
    package_uj INTEGER,
    core_uj    INTEGER,
    uncore_uj  INTEGER,
    dram_uj    INTEGER,
    psys_uj    INTEGER,
    gpu_uj     INTEGER,
    board_uj   INTEGER,
    carbon_ng  INTEGER,
    PRIMARY KEY (at, unit)
) WITHOUT ROWID;
