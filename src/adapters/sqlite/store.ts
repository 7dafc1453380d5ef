import { randomUUID } from "node:crypto"
import { Fault } from "../../core/faults.ts"
import { type Instance, nameSchema, uidSchema } from "../../core/instance.ts"
import {
  marked,
  mayBeReleased,
  newInstance,
  parseInstance,
  withSection,
  withSpec,
} from "../../core/instance-writes.ts"
import type { Clock, Instances } from "../../core/ports.ts"
import { soleReplica } from "../../core/replica.ts"
import type { Database } from "./open.ts"
import { maybeNumberOf, numberOf, type Row, stringOf } from "./row.ts"
import type { Room } from "./writes.ts"

function loaded(row: Row, path: string): Instance {
  const name = stringOf(row, "name")
  const deletedAtMs = maybeNumberOf(row, "deleted_at_ms")
  try {
    return parseInstance(
      {
        name: nameSchema.parse(name),
        uid: uidSchema.parse(stringOf(row, "uid")),
        version: stringOf(row, "version"),
        createdAtMs: numberOf(row, "created_at_ms"),
        ...(deletedAtMs !== undefined && { deletedAtMs }),
      },
      stringOf(row, "spec"),
      stringOf(row, "status"),
    )
  } catch (error) {
    throw new Fault(
      "Invalid",
      `The database ${path} holds an instance ${JSON.stringify(name)} that this blackbox5 cannot read; nothing of it was changed.`,
      `Run the blackbox5 that wrote it, put a copy of the file back, or correct the row of ${JSON.stringify(name)} in the table "instance".`,
      error,
    )
  }
}

/** What is written of instances, in the one file. */
function createRows(database: Database) {
  const insert = database.prepare(
    "INSERT INTO instance (uid, name, version, created_at_ms, spec, status) VALUES (?, ?, ?, ?, ?, '{}')",
  )
  const update = database.prepare(
    "UPDATE instance SET version = ?, spec = ?, status = ? WHERE uid = ?",
  )
  const mark = database.prepare("UPDATE instance SET deleted_at_ms = ? WHERE uid = ?")
  const remove = database.prepare("DELETE FROM instance WHERE uid = ?")
  return {
    insert: ({ uid, name, version, createdAtMs, spec }: Instance): void =>
      void insert.run(uid, name, version, createdAtMs, JSON.stringify(spec)),
    update: ({ uid, version, spec, status }: Instance): void =>
      void update.run(version, JSON.stringify(spec), JSON.stringify(status), uid),
    mark: ({ uid, deletedAtMs }: Instance): void => void mark.run(deletedAtMs ?? null, uid),
    remove: ({ uid }: Instance): void => void remove.run(uid),
  }
}

/**
 * Reads are answered from memory, which holds what is committed; every write goes to the file
 * first. The file belongs to one process, so its replica is the truth.
 */
export function sqliteStore(database: Database, clock: Clock): Instances {
  const stored = database.read(() =>
    database.prepare("SELECT * FROM instance ORDER BY rowid").all(),
  )
  const instances = stored.map((row) => loaded(row, database.path))
  const replica = soleReplica(instances.map((one) => [one.name, one] as const))
  const rows = createRows(database)
  /** The last change of an instance counts: each writes all of it. */
  const insist = (room: Room, { uid }: Instance, step: () => void): void =>
    database.insist(new Map([[`instance ${uid}`, step]]), room)
  const change = (after: Instance, write: (step: () => void) => void): Instance => {
    if (after === replica.get(after.name)) return after
    write(() => rows.update(after))
    replica.put(after.name, after)
    return after
  }

  return {
    replica,
    read: async (name) => replica.get(name),
    async create(name, spec) {
      const uid = uidSchema.parse(randomUUID())
      const head = { name, uid, createdAtMs: clock.nowMs() }
      const instance = newInstance(replica.get(name), head, spec)
      database.write(() => rows.insert(instance))
      replica.put(name, instance)
      await database.durable()
      return instance
    },
    async updateSpec(seen, spec) {
      const after = withSpec(replica.get(seen.name), seen, spec)
      // What halts an agent is done on a full disk too. What lets it go on is not: it could write
      // nothing of its work.
      const changed = change(after, (step) =>
        spec.state === "Running" ? database.write(step) : insist("reserve", after, step),
      )
      await database.durable()
      return changed
    },
    async updateStatus(seen, section, value) {
      const after = withSection(replica.get(seen.name), seen, section, value)
      // What was seen can be seen again: it waits in memory for room, and takes none from what a
      // person wants.
      return change(after, (step) => insist("memory", after, step))
    },
    async delete(seen) {
      const after = marked(replica.get(seen.name), seen, clock.nowMs())
      if (!after) return
      const step = (): void => rows.mark(after)
      database.insist(new Map([[`mark ${after.uid}`, step]]), "reserve")
      replica.put(after.name, after)
      await database.durable()
    },
    async release(seen) {
      const now = replica.get(seen.name)
      if (!mayBeReleased(now, seen)) return
      database.insist(new Map([[`release ${now.uid}`, () => rows.remove(now)]]), "reserve")
      replica.gone(now.name)
    },
  }
}
