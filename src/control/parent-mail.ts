import { DiskFull, Fault } from "../core/faults.ts"
import { fleetIndex } from "../core/fleet-index.ts"
import { hasFinished, type Instance } from "../core/instance.ts"
import type { Mail } from "../core/mail.ts"
import type { Clock, Instances, Mailboxes, Reports } from "../core/ports.ts"
import { counted } from "../core/view.ts"

export interface ParentMailPorts {
  readonly store: Pick<Instances, "replica">
  readonly mailboxes: Pick<Mailboxes, "send">
  readonly reports: Pick<Reports, "beats">
  readonly clock: Pick<Clock, "nowMs">
}

/**
 * Mails the end of a child to its parent, once for each run, with its last message and what it
 * left. A parent that ended itself gets none.
 */
export async function mailEndToParent(ports: ParentMailPorts, child: Instance): Promise<void> {
  const { store, mailboxes, reports, clock } = ports
  const uid = child.spec.lineage.at(-1)
  const parent = uid && fleetIndex(store.replica.snapshot()).byUid.get(uid)
  if (
    !parent ||
    parent.deletedAtMs !== undefined ||
    parent.spec.state === "Stopped" ||
    hasFinished(parent)
  )
    return
  const { run } = child.status
  const { last, work } = reports.beats.get(child.uid) ?? {}
  const end = ends[run?.lastExit?.outcome ?? "Stopped"]
  const lastMessage = last
    ? ` Its last message, of iteration ${last.iteration} (${last.outcome}):\n${last.text}`
    : ""
  const commits = work?.commits === undefined ? "its work" : counted(work.commits, "commit")
  const branch =
    work?.own && work.branch !== undefined ? ` It left ${commits} on branch ${work.branch}.` : ""
  const mail: Mail = {
    id: `end-${run?.place ?? child.uid}`.slice(0, 64),
    from: `instance ${child.name}`,
    authority: "peer",
    text: `${child.name}, which you spawned, ${end}.${branch}${lastMessage}`,
    urgency: "next-iteration",
    atMs: clock.nowMs(),
  }
  try {
    await mailboxes.send(parent.uid, mail)
  } catch (error) {
    // A full inbox or disk must not keep the child from ending: its parent finds the end in the
    // timeline.
    if (!(error instanceof DiskFull) && !(error instanceof Fault && error.code === "RateLimited"))
      throw error
  }
}

const ends = { Complete: "is complete", Failed: "failed", Stopped: "was stopped" } as const
