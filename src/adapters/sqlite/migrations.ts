/** What each version of the file added; `PRAGMA user_version` says how many are in it. One that was released is never changed. */
export const migrations: readonly string[] = [
  `
  CREATE TABLE instance (
    uid TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    version TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    deleted_at_ms INTEGER,
    spec TEXT NOT NULL,
    status TEXT NOT NULL
  ) STRICT;

  CREATE TABLE mail (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    sender TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'Queued',
    iteration INTEGER,
    door TEXT
  ) STRICT;
  CREATE INDEX mail_waiting ON mail (address, seq) WHERE state = 'Queued';
  CREATE INDEX mail_settled ON mail (address, seq) WHERE state <> 'Queued';
  CREATE INDEX mail_address ON mail (address, seq);
  CREATE INDEX mail_sender ON mail (sender, seq);

  CREATE TABLE event (
    cursor INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (uid, id)
  ) STRICT;
  CREATE INDEX event_uid ON event (uid, cursor);

  CREATE TABLE turn (
    uid TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    place TEXT NOT NULL,
    granted_at_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE term (of TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE birth (
    uid TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    lineage TEXT NOT NULL,
    at_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE usage (
    uid TEXT NOT NULL,
    place TEXT NOT NULL,
    usd REAL NOT NULL,
    tokens INTEGER NOT NULL,
    iterations INTEGER NOT NULL,
    ms INTEGER NOT NULL,
    PRIMARY KEY (uid, place)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE hour (
    hour INTEGER PRIMARY KEY,
    usd REAL NOT NULL,
    tokens INTEGER NOT NULL,
    iterations INTEGER NOT NULL,
    ms INTEGER NOT NULL
  ) STRICT;
  `,
  // The timeline newest first, by kind: what happened since, without reading all of it.
  `
  ALTER TABLE event ADD COLUMN kind TEXT NOT NULL DEFAULT '';
  ALTER TABLE event ADD COLUMN at_ms INTEGER NOT NULL DEFAULT 0;
  UPDATE event SET kind = json_extract(body, '$.kind'), at_ms = json_extract(body, '$.atMs');
  CREATE INDEX event_kind ON event (kind, cursor);
  CREATE INDEX event_uid_kind ON event (uid, kind, cursor);
  `,
  `
  CREATE TABLE wait (
    uid TEXT NOT NULL,
    kind TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (uid, kind)
  ) STRICT, WITHOUT ROWID;
  `,
  // People's tokens: `digest` is the SHA-256 of the bearer, which is kept nowhere.
  `
  CREATE TABLE token (
    digest TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    revoked_at_ms INTEGER
  ) STRICT, WITHOUT ROWID;
  `,
]
