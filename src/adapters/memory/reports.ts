import { isBeatNews, isOutdatedBeat } from "../../core/beat.ts"
import type { Uid } from "../../core/instance.ts"
import { isSameLink, type Linked } from "../../core/link.ts"
import type { Reports } from "../../core/ports.ts"
import type { Wait } from "../../core/waits.ts"
import type { Connection } from "./connection.ts"

export function memoryReports({ backend, replicaOf, reach, signal }: Connection): Reports {
  const { beats: beatTruth, waits: waitTruth, links: linkTruth, clock } = backend
  const beats = replicaOf(beatTruth, { isNews: isBeatNews })
  const waits = replicaOf(waitTruth)
  const links = replicaOf(linkTruth)
  const unexpired = (list: readonly Wait[] = []): readonly Wait[] =>
    list.filter(({ untilMs }) => untilMs > clock.nowMs())
  const own = new Map<Uid, Linked>()
  const takeOut = (uid: Uid, link: Linked): number | undefined =>
    isSameLink(linkTruth.get(uid), link) ? linkTruth.gone(uid) : undefined
  signal.addEventListener("abort", () => {
    for (const [uid, link] of own) takeOut(uid, link)
  })

  return {
    beats,
    waits,
    links,
    async beat(uid, beat) {
      const revision = await reach("reports.beat", () =>
        isOutdatedBeat(beat, beatTruth.get(uid)) ? undefined : beatTruth.put(uid, beat),
      )
      if (revision !== undefined) beats.put(uid, beat, revision)
    },
    async wait(uid, wait) {
      const [list, revision] = await reach("reports.wait", () => {
        for (const [of, old] of [...waitTruth.entries()])
          if (unexpired(old).length === 0) waitTruth.gone(of)
        const others = unexpired(waitTruth.get(uid)).filter(({ kind }) => kind !== wait.kind)
        const now = [...others, wait]
        return [now, waitTruth.put(uid, now)] as const
      })
      waits.put(uid, list, revision)
    },
    async linked(uid, link) {
      own.set(uid, link)
      const revision = await reach("reports.linked", () => linkTruth.put(uid, link))
      links.put(uid, link, revision)
    },
    async unlinked(uid, link) {
      if (isSameLink(own.get(uid), link)) own.delete(uid)
      const revision = await reach("reports.unlinked", () => takeOut(uid, link))
      if (revision !== undefined) links.gone(uid, revision)
    },
  }
}
