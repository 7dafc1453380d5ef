/**
 * What each version of the file added; `PRAGMA user_version` says how many are in it. One that was
 * released is never changed.
 */
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
  // The audit leaves the timeline, whose bound is shared with what agents tell. Triggers add up who
  // holds how much of it. The oldest records said what they said in one sentence alone.
  `
  CREATE TABLE audit_holder (
    holder TEXT PRIMARY KEY,
    share TEXT NOT NULL,
    bytes INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX audit_holder_size ON audit_holder (share, bytes);
  CREATE TABLE audit_share (share TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE audit_day (
    holder TEXT NOT NULL,
    series TEXT NOT NULL,
    day INTEGER NOT NULL,
    records INTEGER NOT NULL,
    PRIMARY KEY (holder, series)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    count INTEGER NOT NULL,
    share TEXT NOT NULL,
    holder TEXT NOT NULL,
    sum_of TEXT,
    who TEXT NOT NULL,
    tool TEXT NOT NULL,
    verdict TEXT NOT NULL,
    call TEXT NOT NULL,
    why TEXT,
    bytes INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX audit_of_holder ON audit (holder, seq);
  CREATE INDEX audit_age ON audit (last_ms);
  CREATE UNIQUE INDEX audit_sum ON audit (sum_of) WHERE sum_of IS NOT NULL;
  CREATE TRIGGER audit_added AFTER INSERT ON audit BEGIN
    INSERT INTO audit_holder VALUES (new.holder, new.share, new.bytes)
      ON CONFLICT (holder) DO UPDATE SET bytes = bytes + excluded.bytes;
    INSERT INTO audit_share VALUES (new.share, new.bytes) ON CONFLICT (share) DO UPDATE SET bytes = bytes + excluded.bytes;
  END;
  CREATE TRIGGER audit_removed AFTER DELETE ON audit BEGIN
    UPDATE audit_holder SET bytes = bytes - old.bytes WHERE holder = old.holder;
    DELETE FROM audit_holder WHERE holder = old.holder AND bytes <= 0;
    UPDATE audit_share SET bytes = bytes - old.bytes WHERE share = old.share;
  END;

  INSERT INTO audit (id, at_ms, last_ms, count, share, holder, who, tool, verdict, call, why, bytes)
    SELECT id, at_ms, at_ms, 1,
      iif(verdict = 'done', 'changes by ', 'refusals of ') || iif(who LIKE 'instance %', 'agents', 'people'),
      iif(verdict = 'done', 'changes ', 'refusals ') || who, who, tool, verdict,
      json_patch(json_object('on', json(on_whom)), json_object('flags', json(flags), 'made', json(made))),
      iif(verdict = 'done', NULL, substr(message, instr(message, ': ' || verdict || ', ') + length(verdict) + 4)),
      length(body) + 200
    FROM (SELECT cursor, id, at_ms, body,
      coalesce(json_extract(body, '$.called.who'), 'unknown') AS who,
      coalesce(json_extract(body, '$.called.tool'), 'unknown') AS tool,
      coalesce(json_extract(body, '$.called.verdict'), 'done') AS verdict,
      coalesce(json_extract(body, '$.called.on'), json_array(json_extract(body, '$.message'))) AS on_whom,
      json_extract(body, '$.called.flags') AS flags, json_extract(body, '$.called.made') AS made,
      json_extract(body, '$.message') AS message
      FROM event WHERE kind = 'Audit' ORDER BY cursor);
  DELETE FROM event WHERE kind = 'Audit';
  `,
  // How many events there are of each instance, of those that its supervisor told and of the
  // others; under no share, of all.
  `
  ALTER TABLE event ADD COLUMN share TEXT NOT NULL DEFAULT 'witnessed';
  UPDATE event SET share = 'told' WHERE kind IN ('IterationStarted', 'IterationEnded', 'Warning');
  CREATE INDEX event_share ON event (uid, share, cursor);
  CREATE TABLE event_count (
    uid TEXT NOT NULL,
    share TEXT NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (uid, share)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO event_count SELECT uid, share, count(*) FROM event GROUP BY uid, share;
  INSERT INTO event_count SELECT '', '', count(*) FROM event;
  CREATE TRIGGER event_added AFTER INSERT ON event BEGIN
    INSERT INTO event_count VALUES (new.uid, new.share, 1) ON CONFLICT (uid, share) DO UPDATE SET events = events + 1;
    UPDATE event_count SET events = events + 1 WHERE uid = '' AND share = '';
  END;
  CREATE TRIGGER event_removed AFTER DELETE ON event BEGIN
    UPDATE event_count SET events = events - 1 WHERE uid = old.uid AND share = old.share;
    DELETE FROM event_count WHERE uid = old.uid AND share = old.share AND events <= 0;
    UPDATE event_count SET events = events - 1 WHERE uid = '' AND share = '';
  END;
  `,
  // The order of births, and what an account keeps of the policy. Older specs say all of that
  // themselves.
  `
  ALTER TABLE birth ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE birth ADD COLUMN defaults TEXT NOT NULL DEFAULT '{}';
  UPDATE birth SET rank = older.rank
    FROM (SELECT uid, row_number() OVER (ORDER BY at_ms, uid) AS rank FROM birth) AS older
    WHERE older.uid = birth.uid;
  CREATE UNIQUE INDEX birth_rank ON birth (rank);
  `,
]
