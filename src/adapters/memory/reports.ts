import { isBeatNews } from "../../core/beat.ts"
import type { Uid } from "../../core/instance.ts"
import type { Reports } from "../../core/ports.ts"
import { type Source, topic } from "../../core/source.ts"
import type { Wait } from "../../core/waits.ts"
import type { Connection } from "./connection.ts"

export function memoryReports({ backend, replicaOf, reach }: Connection): Reports {
  const { beats: beatTruth, waits: waitTruth, clock } = backend
  const beats = replicaOf(beatTruth, { isNews: isBeatNews })
  const waits = replicaOf(waitTruth)
  const unexpired = (list: readonly Wait[] = []): readonly Wait[] =>
    list.filter(({ untilMs }) => untilMs > clock.nowMs())
  return {
    watch: both(beats.watch, waits.watch),
    async beat(uid, beat) {
      const revision = await reach("reports.beat", () => beatTruth.put(uid, beat))
      beats.put(uid, beat, revision)
    },
    beats: async () => beats.snapshot(),
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
    async waits() {
      return new Map([...waits.snapshot()].map(([uid, list]) => [uid, unexpired(list)]))
    },
  }
}

const both = (first: Source<Uid>, second: Source<Uid>): Source<Uid> =>
  async function* (signal) {
    const { changed, source } = topic<Uid>(async () => [])
    for (const each of [first, second])
      void (async () => {
        for await (const uid of each(signal)) changed(uid)
      })()
    yield* source(signal)
  }
