import { createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { z } from "zod"
import type { Authenticate } from "../core/authenticate-port.ts"
import { Fault } from "../core/faults.ts"
import { hasLiveRun, isUpcomingRun, nameSchema, uidSchema } from "../core/instance.ts"
import type { Instances } from "../core/ports.ts"
import { credentialPrefix } from "../core/secrets.ts"

/** The credential that each run's supervisor has. */

const holderSchema = z.strictObject({
  name: nameSchema,
  uid: uidSchema,
  place: z.string().min(1).max(128),
  /** Of the run at that place; absent for one that a version before 0.5 started. */
  number: z.int().min(1).optional(),
})
/** Whom a credential was made for: one instance at one place. */
export type Holder = z.output<typeof holderSchema>

export interface Credentials {
  /**
   * A bearer that says itself whom it is for, so that nothing need be kept for it: the holder, and
   * an HMAC over that.
   */
  mint(holder: Holder): string
  /** Undefined when the bearer is no credential of this fleet. The holder's run may have ended. */
  verify(bearer: string): Holder | undefined
}
const keyBytes = 32
export function createCredentials(stateDirectory: string): Credentials {
  const path = join(stateDirectory, "link.key")
  let key: Buffer = existsSync(path) ? readFileSync(path) : Buffer.alloc(0)
  // Half a key, of a machine that stopped just then, would be a weak one; no run that knew it
  // lives.
  if (key.length !== keyBytes) {
    key = randomBytes(keyBytes)
    const draft = `${path}.${process.pid}`
    writeFileSync(draft, key, { mode: 0o600, flush: true })
    renameSync(draft, path)
  }
  const proofOf = (claim: string): Buffer => createHmac("sha256", key).update(claim).digest()
  return {
    mint({ name, uid, place, number }) {
      const claim = Buffer.from(JSON.stringify({ name, uid, place, number })).toString("base64url")
      return `${credentialPrefix}${claim}.${proofOf(claim).toString("base64url")}`
    },
    verify(bearer) {
      // Supervisors from before credentials had a prefix keep theirs.
      const bare = bearer.startsWith(credentialPrefix)
        ? bearer.slice(credentialPrefix.length)
        : bearer
      const [claim = "", proof = "", more] = bare.split(".")
      const given = Buffer.from(proof, "base64url")
      const wanted = proofOf(claim)
      if (more !== undefined || given.length !== wanted.length || !timingSafeEqual(given, wanted))
        return undefined
      // The proof says that the owner of this key wrote the claim.
      return holderSchema.parse(JSON.parse(Buffer.from(claim, "base64url").toString("utf8")))
    },
  }
}

/** The credential is genuine, but another run, or none, is the current one. */
export class RunEnded extends Fault {
  constructor() {
    super(
      "Unauthenticated",
      "This credential belongs to a run that has ended.",
      "Do nothing: what is left of that run is being ended. A new run has its own credential.",
    )
  }
}

/** The instance that a credential was made for, as long as its place is the current one. */
export const authenticateByCredential =
  (credentials: Pick<Credentials, "verify">, readInstance: Instances["read"]): Authenticate =>
  async (bearer) => {
    const holder = credentials.verify(bearer)
    if (!holder) return undefined
    const { name, uid, place } = holder
    const instance = await readInstance(name)
    if (!instance || instance.uid !== uid) throw new RunEnded()
    const { run } = instance.status
    if (run?.place === place && hasLiveRun(instance))
      return { who: { kind: "instance", id: name, uid, lineage: instance.spec.lineage }, place }
    // The operator writes a start to the store a moment after the run began.
    if (isUpcomingRun(holder, run))
      throw new Fault("Unavailable", "This run is only just starting.", "Try again in a second.")
    throw new RunEnded()
  }
