import { randomUUID } from "node:crypto"
import { Fault } from "../../core/faults.ts"
import { type FleetIndex, indexAs, isOpen } from "../../core/fleet-index.ts"
import {
  type Instance,
  nameSchema,
  type Section,
  type Spec,
  specSchema,
  statusSchema,
  type Uid,
  uidSchema,
} from "../../core/instance.ts"
import type { Clock, Instances } from "../../core/ports.ts"
import { topic } from "../../core/source.ts"
import type { Database } from "./open.ts"
import { maybeNumberOf, numberOf, type Row, stringOf } from "./row.ts"
import type { Room } from "./writes.ts"

type Part = "spec" | Section

/** `3.1.5`: how often spec, admission and run were written. */
const counters = (version: string): Record<Part, number> => {
  const [spec = 0, admission = 0, run = 0] = version.split(".").map(Number)
  return { spec, admission, run }
}
const raised = (version: string, part: Part): string => {
  const now = counters(version)
  now[part]++
  return `${now.spec}.${now.admission}.${now.run}`
}

function frozen<T>(value: T): T {
  if (typeof value === "object" && value !== null)
    for (const inner of Object.values(value)) frozen(inner)
  return Object.freeze(value)
}

/**
 * The instance as it reads back from the file, whatever the caller's objects do later. @throws
 * Invalid for what could not be read back.
 */
function instanceOf(
  head: Omit<Instance, "spec" | "status">,
  specText: string,
  statusText: string,
): Instance {
  const spec = specSchema.safeParse(JSON.parse(specText))
  const status = statusSchema.safeParse(JSON.parse(statusText))
  const issue = spec.error?.issues[0] ?? status.error?.issues[0]
  if (!spec.success || !status.success)
    throw new Fault(
      "Invalid",
      `The instance ${head.name} is not valid: ${issue?.path.join(".")}: ${issue?.message}`,
      "Correct that field.",
    )
  return frozen({ ...head, spec: spec.data, status: status.data })
}

function loaded(row: Row, path: string): Instance {
  const name = stringOf(row, "name")
  const deletedAtMs = maybeNumberOf(row, "deleted_at_ms")
  try {
    return instanceOf(
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

/**
 * Every read is answered from memory, which holds what is committed; every write goes to the file
 * first.
 */
export function sqliteStore(database: Database, clock: Clock): Instances {
  const rows = database.read(() => database.prepare("SELECT * FROM instance ORDER BY rowid").all())
  const byName = new Map(
    rows.map((row) => loaded(row, database.path)).map((one) => [one.name, one]),
  )
  const byUid = new Map([...byName.values()].map((one) => [one.uid, one]))
  const open = new Map([...byUid].filter(([, one]) => isOpen(one)))
  const index: FleetIndex = { byUid, open: () => [...open.values()] }
  /** As it was given last, until something changes. */
  let listed: readonly Instance[] | undefined
  const { changed, source } = topic(async () => [...byName.keys()])
  const insert = database.prepare(
    "INSERT INTO instance (uid, name, version, created_at_ms, spec, status) VALUES (?, ?, ?, ?, ?, '{}')",
  )
  const update = database.prepare(
    "UPDATE instance SET version = ?, spec = ?, status = ? WHERE uid = ?",
  )
  const mark = database.prepare("UPDATE instance SET deleted_at_ms = ? WHERE uid = ?")
  const remove = database.prepare("DELETE FROM instance WHERE uid = ?")

  /** The same instance as it is now; undefined when it is gone, even if its name is used again. */
  const current = ({ name, uid }: Instance): Instance | undefined => {
    const now = byName.get(name)
    return now?.uid === uid ? now : undefined
  }
  const conflict = (message: string): Fault =>
    new Fault("Conflict", message, "Read it again and repeat.")
  const keep = (instance: Instance): Instance => {
    byName.set(instance.name, instance)
    byUid.set(instance.uid, instance)
    if (isOpen(instance)) open.set(instance.uid, instance)
    else open.delete(instance.uid)
    listed = undefined
    changed(instance.name)
    return instance
  }
  const change = (
    seen: Instance,
    part: Part,
    next: (now: Instance) => { spec: Spec; status: object },
    write: (uid: Uid, step: () => void) => void,
  ): Instance => {
    const now = current(seen)
    if (!now)
      throw new Fault(
        "NotFound",
        `The instance ${seen.name} is gone.`,
        "Call list_instances for those that exist.",
      )
    if (counters(seen.version)[part] !== counters(now.version)[part])
      throw conflict(`The ${part} of ${seen.name} changed meanwhile.`)
    const { spec, status } = next(now)
    const version = raised(now.version, part)
    const instance = instanceOf({ ...now, version }, JSON.stringify(spec), JSON.stringify(status))
    const [specText, statusText] = [JSON.stringify(instance.spec), JSON.stringify(instance.status)]
    if (specText === JSON.stringify(now.spec) && statusText === JSON.stringify(now.status))
      return now
    write(now.uid, () => update.run(version, specText, statusText, now.uid))
    return keep(instance)
  }
  /** The last change of an instance counts: each writes all of it. */
  const insist =
    (room: Room) =>
    (uid: Uid, step: () => void): void =>
      database.insist(new Map([[`instance ${uid}`, step]]), room)

  return {
    watch: source,
    get: async (name) => byName.get(name),
    async list() {
      if (!listed) {
        listed = [...byName.values()]
        indexAs(listed, index)
      }
      return listed
    },
    async create(name, spec) {
      const taken = byName.get(name)
      if (taken)
        throw new Fault(
          "Conflict",
          `The name ${name} is taken${taken.deletedAtMs === undefined ? "" : " by an instance that is still being removed"}.`,
          "Choose another name.",
        )
      if (!nameSchema.safeParse(name).success)
        throw new Fault(
          "Invalid",
          `${JSON.stringify(name)} is no name of an instance.`,
          "Use a lower-case DNS label of 1 to 53 characters.",
        )
      const uid: Uid = uidSchema.parse(randomUUID())
      const instance = instanceOf(
        { name, uid, version: "1.0.0", createdAtMs: clock.nowMs() },
        JSON.stringify(spec),
        "{}",
      )
      database.write(() =>
        insert.run(
          uid,
          name,
          instance.version,
          instance.createdAtMs,
          JSON.stringify(instance.spec),
        ),
      )
      keep(instance)
      await database.durable()
      return instance
    },
    async updateSpec(seen, spec) {
      // What halts an agent is done on a full disk too. What lets it go on is not: it could write
      // nothing of its work.
      const write =
        spec.state === "Running"
          ? (_uid: Uid, step: () => void) => database.write(step)
          : insist("reserve")
      const changed = change(seen, "spec", ({ status }) => ({ spec, status }), write)
      await database.durable()
      return changed
    },
    // What is seen can be seen again: it waits in memory for room, and takes none from what a
    // person wants.
    updateStatus: async (seen, section, value) =>
      change(
        seen,
        section,
        ({ name, spec, status }) => {
          if (value.term < (status[section]?.term ?? value.term))
            throw conflict(`The ${section} of ${name} was written by a newer leader.`)
          return { spec, status: { ...status, [section]: value } }
        },
        insist("memory"),
      ),
    async delete(seen) {
      const now = current(seen)
      if (!now || now.deletedAtMs !== undefined) return
      if (counters(seen.version).spec !== counters(now.version).spec)
        throw conflict(`The spec of ${seen.name} changed meanwhile.`)
      const deletedAtMs = clock.nowMs()
      database.insist(
        new Map([[`mark ${now.uid}`, () => mark.run(deletedAtMs, now.uid)]]),
        "reserve",
      )
      keep(frozen({ ...now, deletedAtMs }))
      await database.durable()
    },
    /** Only what is marked: nobody asked for the end of anything else. */
    async release(seen) {
      const now = current(seen)
      if (now?.deletedAtMs === undefined) return
      database.insist(new Map([[`release ${now.uid}`, () => remove.run(now.uid)]]), "reserve")
      byName.delete(now.name)
      byUid.delete(now.uid)
      open.delete(now.uid)
      listed = undefined
      changed(now.name)
    },
  }
}
